"""Rounded tables: FBGEMM's own numbers, a float64 oracle, and scores on one rank and on two."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.embeddings.mixed import MixedEmbeddings
from models.sizing import Serving, plan_bytes
from models.tables import Block, SizingPlan
from service.__main__ import main
from service.distributed import launch
from service.sizing import read_sizing
from service.train.evaluate_run import EvaluateConfig, evaluate_run
from service.train.loop import train
from service.train.served import round_tables, rounded
from sharding.constraints import ShardingConfig
from tests.service.train.equality_runs import make_packed_run
from tests.service.train.runs import make_run

ROW = [-1.0, -0.5, 0.25, 1.0]
READ_BACK = {
    "int8": [-1.0, -0.4980392156862745, 0.24705882352941178, 1.0],
    "int4": [-1.0, -0.4666666666666667, 0.2, 1.0],
}
"""By the rule: ``round((x - min) / scale) * scale + min`` with ``scale = (max - min) / (2^b - 1)``,
which is 0, 64, 159 and 255 times 2/255, and 0, 4, 9 and 15 times 2/15."""
BITS = {"int8": 8, "int4": 4}
HALF = 2.0**-11
"""By which share a half float can be off."""
DTYPES = ("fp16", "int8", "int4")


@pytest.mark.parametrize("dtype", BITS)
def test_a_row_is_read_back_as_the_rule_says(dtype):
    found = rounded(torch.tensor([ROW]), dtype)[0].double().numpy()
    assert np.abs(found - READ_BACK[dtype]).max() <= 2 * HALF


def in_float64(rows, bits):
    """Rows and scales by the rule, with the half floats that are stored for scale and bias.

    Also by which share of a step a row's element is off from the middle between two integers.
    """
    bias = rows.min(1, keepdims=True).astype(np.float16).astype(np.float64)
    span = rows.max(1, keepdims=True).astype(np.float64) - bias
    scale = (span / (2**bits - 1)).astype(np.float16).astype(np.float64)
    exact = (rows - bias) / scale
    steps = np.clip(np.rint(exact), 0, 2**bits - 1)
    return bias + steps * scale, scale, np.abs(np.abs(exact - np.rint(exact)) - 0.5)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([4, 8, 12, 32]), st.sampled_from(sorted(BITS)))
def test_integers_equal_a_float64_oracle_and_err_by_half_a_scale(seed, dim, dtype):
    rows = np.random.default_rng(seed).normal(0, 0.1, (200, dim)).astype(np.float32)
    found = rounded(torch.from_numpy(rows), dtype).double().numpy()
    expected, scale, to_tie = in_float64(rows, BITS[dtype])
    bias_error = HALF * np.abs(rows).max(1, keepdims=True)
    # The scale is a quotient in float32: beside a tie it is the next half float.
    other_scale = 2 * HALF * np.ptp(rows, axis=1, keepdims=True)
    is_other = np.abs(found - expected) > other_scale  # an integer further, beside a tie
    assert (to_tie[is_other] < 2 * HALF * 2 ** BITS[dtype]).all()
    assert (np.abs(found - expected) <= scale + other_scale).all()
    assert np.mean(is_other) < 1e-2
    assert (np.abs(found - rows) <= scale / 2 + bias_error + 1e-7).all()


def test_half_floats_are_those_of_numpy():
    rows = np.random.default_rng(0).normal(0, 0.1, (50, 6)).astype(np.float32)
    expected = rows.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rounded(torch.from_numpy(rows), "fp16").numpy(), expected)


@pytest.mark.parametrize("dtype", BITS)
def test_packed_rows_share_the_scale_of_their_stored_row(dtype):
    blocks = (Block(num_embeddings=10, embedding_dim=1, asked_dim=1),)
    plan = SizingPlan(fields={"a": blocks}, out_dim=1)
    model = torch.nn.ModuleDict({"network": MixedEmbeddings(plan)})
    weight = model["network"].tables.embedding_bags["a"].weight
    before = weight.detach().clone()
    round_tables(model, plan, dtype)
    expected, *_ = in_float64(before.numpy(), BITS[dtype])  # (3, 4): stored rows
    np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-6)
    assert not torch.equal(weight, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_no_half_float_holds_are_refused(dtype):
    blocks = (Block(num_embeddings=3, embedding_dim=4, asked_dim=4),)
    plan = SizingPlan(fields={"a": blocks}, out_dim=4)
    model = torch.nn.ModuleDict({"network": MixedEmbeddings(plan)})
    with torch.no_grad():
        model["network"].tables.embedding_bags["a"].weight[1] = 1e9 * torch.arange(4)
    with pytest.raises(ValueError, match=r"table 'a': it has weights beyond 65,504"):
        round_tables(model, plan, dtype)


@pytest.fixture(scope="module", params=["mixed", "packed"])
def run(request, tmp_path_factory):
    """A finished run whose tables were cut by columns, which rounding must not see."""
    make = {"mixed": make_run, "packed": make_packed_run}[request.param]
    kind = {"mixed": "column_wise", "packed": "table_wise"}[request.param]
    config = make(
        tmp_path_factory.mktemp(request.param),
        sharding=ShardingConfig(types=(kind,)),
        max_steps=8,
    )
    launch(train, config, nproc=1, name="train")
    return config


@pytest.mark.dist
@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_of_rounded_tables_are_the_same_on_two_ranks(run, dtype):
    config = EvaluateConfig(run=run.output, dtype=dtype, device="cpu")
    one, two = (launch(evaluate_run, config, nproc=nproc, name="served") for nproc in (1, 2))
    plan = replace(read_sizing(run.sizing).plan, join=run.network.join)
    assert two.served.scores == pytest.approx(one.served.scores, abs=1e-6)
    assert one.served.serving_bytes == plan_bytes(plan, serving=Serving(dtype=dtype)).serving_bytes
    assert one.served.changes["log_loss"] == pytest.approx(
        one.served.scores["log_loss"] - one.scores["log_loss"]
    )
    assert one.served.scores["log_loss"] != one.scores["log_loss"]


def test_evaluate_prints_both_scores_and_bytes(run, capsys):
    assert main(["evaluate", str(run.output), "--dtype", "int4"]) == 0
    printed = capsys.readouterr().out
    for text in ("fp32", "int4", "change", "log_loss", "serving bytes"):
        assert text in printed
    assert main(["evaluate", str(run.output), "--dtype", "int4", "--json"]) == 0
    served = json.loads(capsys.readouterr().out)["served"]
    assert served["serving_bytes"] < served["fp32_serving_bytes"]
