"""Serving bytes: FBGEMM's own row sizes, and the tensors that TorchRec's quantised modules hold."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from fbgemm_gpu.split_embedding_configs import SparseType
from fbgemm_gpu.split_table_batched_embeddings_ops_inference import rounded_row_size_in_bytes
from torch import nn
from torchrec.inference.modules import quantize_embeddings
from torchrec.quant.embedding_modules import MODULE_ATTR_ROW_ALIGNMENT_INT

from models.embeddings.mixed import MixedEmbeddings
from models.sizing import Serving, ServingDtype, Solver, best_fit, plan_bytes
from models.sizing.serving import WEIGHT_BITS
from models.tables import Block, Join, SizingPlan

pytestmark = pytest.mark.filterwarnings(
    # TorchRec's quantisation is built on torch's, which torch announces to move elsewhere.
    "ignore:(?s).*torch.ao.quantization is deprecated:DeprecationWarning"
)

TORCH_DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "int8": torch.qint8,
    "int4": torch.quint4x2,
}
CACHE_LINE = 128
"""FBGEMM starts every table on one, which is the loaded module's padding and not the export's."""

SERVINGS = [
    Serving(dtype=dtype, row_alignment=alignment)
    for dtype, alignment in product(WEIGHT_BITS, (1, 16))
]


@pytest.fixture(params=SERVINGS, ids=lambda serving: f"{serving.dtype}-{serving.row_alignment}")
def serving(request: pytest.FixtureRequest) -> Serving:
    return request.param


def plan_of(*shapes: tuple[int, int], out_dim: int = 16) -> SizingPlan:
    fields = {
        f"f{index}": (Block(num_embeddings=rows, embedding_dim=dim, asked_dim=dim),)
        for index, (rows, dim) in enumerate(shapes)
    }
    return SizingPlan(fields=fields, out_dim=out_dim)


MIXED = plan_of((1001, 1), (777, 2), (100, 4), (50, 12), (9, 16))


@pytest.mark.parametrize("dim", [4, 8, 12, 16, 24, 32, 64, 100])
def test_row_bytes_are_those_of_fbgemm(serving: Serving, dim: int) -> None:
    kind = SparseType(serving.dtype)
    expected = rounded_row_size_in_bytes(dim, kind, serving.row_alignment)
    assert serving.row_bytes(np.array(dim)) == expected


def quantised(plan: SizingPlan, serving: Serving) -> nn.Module:
    """The tables of a plan as TorchRec quantises them."""
    tables = MixedEmbeddings(plan).tables
    setattr(tables, MODULE_ATTR_ROW_ALIGNMENT_INT, serving.row_alignment)
    holder = nn.Sequential(tables)
    return quantize_embeddings(holder, dtype=TORCH_DTYPES[serving.dtype], inplace=True)[0]


def test_bytes_of_a_plan_are_those_of_the_quantised_tensors(serving: Serving) -> None:
    (lookup,) = quantised(MIXED, serving)._emb_modules
    weights = [weight for weight, _ in lookup.split_embedding_weights(split_scale_shifts=False)]
    found = [weight.numel() * weight.element_size() for weight in weights]
    cost = plan_bytes(MIXED, serving=serving)
    assert [table.serving - table.projection for table in cost.tables.values()] == found
    lines = [-(-num_bytes // CACHE_LINE) * CACHE_LINE for num_bytes in found]
    assert lookup.weights_host.numel() == sum(lines)
    assert cost.serving_bytes == sum(found) + 4 * 16 * (1 + 2 + 4 + 12)


@pytest.mark.parametrize("dim", range(1, 13))
@pytest.mark.parametrize("dtype", WEIGHT_BITS)
def test_a_dtype_takes_the_widths_that_fbgemm_quantises(dtype: ServingDtype, dim: int) -> None:
    plan = plan_of((5, dim))
    try:
        quantised(plan, Serving(dtype=dtype))
        is_taken = True
    except RuntimeError:
        is_taken = False
    assert Serving(dtype=dtype).takes(dim) == is_taken


def every_plan(rows: Sequence[int], widths: Sequence[int]) -> Iterator[SizingPlan]:
    for dims in product(widths, repeat=len(rows)):
        yield plan_of(*zip(rows, dims, strict=True), out_dim=max(dims))


@pytest.mark.parametrize("join", ["project", "pad", "concatenate"])
def test_the_plan_is_the_best_of_all_within_the_serving_budget(
    serving: Serving, join: Join
) -> None:
    rows, widths = (300, 41, 7), (1, 2, 4, 8, 12, 16)
    values = {f"f{i}": {w: n * (i + 1) * w**0.5 for w in widths} for i, n in enumerate(rows)}
    asked = replace(plan_of(*((n, 8) for n in rows)), join=join)
    plans = [replace(plan, join=join) for plan in every_plan(rows, widths)]
    costs = [plan_bytes(plan, serving=serving).serving_bytes for plan in plans]
    for budget in np.quantile(costs, [0.05, 0.3, 0.7]).astype(int):
        found = best_fit(asked, int(budget), grid=widths, serving=serving, values=values).plan
        worth = [
            sum(values[name][dim] for name, dim in plan.dims().items())
            for plan, cost in zip(plans, costs, strict=True)
            if cost <= budget
        ]
        assert plan_bytes(found, serving=serving).serving_bytes <= budget
        assert sum(values[n][d] for n, d in found.dims().items()) == pytest.approx(max(worth))


@pytest.mark.parametrize("solver", ["scale", "fill"])
def test_other_solvers_keep_the_serving_budget(serving: Serving, solver: Solver) -> None:
    asked = plan_of((3000, 4), (500, 9), (40, 16))
    least = plan_bytes(plan_of((3000, 4), (500, 4), (40, 4), out_dim=4), serving=serving)
    for share in (1.0, 1.7, 2.5):
        budget = int(share * least.serving_bytes)
        plan = best_fit(asked, budget, grid=(4, 8, 12, 16), serving=serving, solver=solver).plan
        assert plan_bytes(plan, serving=serving).serving_bytes <= budget


def test_a_narrower_dtype_buys_wider_tables() -> None:
    asked = plan_of((3000, 8), (500, 8))
    dims = [
        best_fit(asked, 60_000, grid=range(4, 65, 4), serving=Serving(dtype=dtype)).plan.dims()[
            "f0"
        ]
        for dtype in WEIGHT_BITS
    ]
    # The widest w with 3,500 rows of 4w, 2w, w + 4 and w/2 + 4 bytes within 60,000: 17 a row.
    assert dims == [4, 8, 12, 24]


@pytest.mark.parametrize("alignment", [0, 8])
def test_an_alignment_that_fbgemm_does_not_use_is_refused(alignment: Any) -> None:
    with pytest.raises(ValueError, match=f"row_alignment={alignment}, expected 1"):
        Serving(row_alignment=alignment)


def test_widths_that_a_dtype_does_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match=r"table 'f0': embedding_dim=6, expected 1, 2 or a mul"):
        Serving(dtype="int4").check(plan_of((5, 6)))
    with pytest.raises(ValueError, match="dtype int8 takes widths 1, 2 and multiples of 2"):
        Serving(dtype="int8").grid([3, 5, 7])
