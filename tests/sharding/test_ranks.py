"""Sharded equals unsharded, on two real gloo ranks."""

import socket
from itertools import product

import pytest
import torch
import torch.multiprocessing
from torch import Tensor, nn

from sharding.cluster import local
from sharding.constraints import SHARDING_TYPES, Comms, ShardingConfig, ShardingType
from sharding.cost import Workload
from sharding.placing import place
from sharding.report import report
from tests.sharding.ranks import (
    LEARNING_RATE,
    TABLES,
    Case,
    Outcome,
    first_weights,
    global_batch,
    loss_of,
    run,
)
from tests.sharding.tables import table

pytestmark = pytest.mark.dist

ELEMENTWISE = ("sgd", "adagrad")
UNEVEN = ((5, 3), (4, 0))
CUT_BY_COLUMNS: tuple[ShardingType, ...] = ("column_wise", "table_column_wise")
CASES = [
    *(
        Case(sharding_type=kind, optimizer=optimizer)
        for kind, optimizer in product(SHARDING_TYPES, ELEMENTWISE)
    ),
    *(
        Case(sharding_type=kind, optimizer="rowwise_adagrad")
        for kind in SHARDING_TYPES
        if kind != "data_parallel"
    ),
    *(
        Case(sharding_type=kind, optimizer="adagrad", batch_sizes=sizes, num_steps=3)
        for kind, sizes in product(("table_wise", "column_wise", "data_parallel"), UNEVEN)
    ),
    *(
        Case(sharding_type="row_wise", optimizer="adagrad", batch_sizes=sizes, num_steps=1)
        for sizes in UNEVEN
    ),
]
ROUNDED = [
    Case(sharding_type=kind, optimizer="sgd", num_steps=1, comms=comms)
    for kind, comms in product(("table_wise", "row_wise"), ("fp32", "fp16", "bf16"))
]
ROUNDING: dict[Comms, float] = {"fp32": 2**-24, "fp16": 2**-11, "bf16": 2**-8}
"""Largest relative error of a number."""
Outcomes = dict[Case, list[Outcome]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Every case, trained by one pair of processes: starting them costs more than training."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(run, args=(CASES + ROUNDED, folder, port), nprocs=2)
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]
    return {case: list(both) for case, *both in zip(CASES + ROUNDED, *ranks, strict=True)}


def oracle(case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """First pooled vectors and last weights of one process with float64 ``nn.EmbeddingBag``s."""
    bags = {
        name: nn.EmbeddingBag.from_pretrained(weights.double(), freeze=False, mode="sum")
        for name, weights in first_weights().items()
    }
    parameters = [bag.weight for bag in bags.values()]
    eps = {"eps": 1e-8}
    optimizer = {
        "sgd": lambda: torch.optim.SGD(parameters, LEARNING_RATE),
        "adagrad": lambda: torch.optim.Adagrad(parameters, LEARNING_RATE, **eps),
        "rowwise_adagrad": lambda: RowwiseAdagrad(parameters),
    }[case.optimizer]()
    forward: dict[str, Tensor] = {}
    num_examples = sum(case.batch_sizes)
    for step in range(case.num_steps):
        lengths, ids = global_batch(step, num_examples)
        pooled = {
            name: bags[name](x, length.cumsum(0) - length)
            for name, x, length in zip(TABLES, ids, lengths, strict=True)
        }
        forward = forward or {name: x.detach() for name, x in pooled.items()}
        optimizer.zero_grad()
        loss_of(pooled, num_examples).backward()
        optimizer.step()
    return forward, {name: bag.weight.detach() for name, bag in bags.items()}


class RowwiseAdagrad:
    """One accumulator a row: the mean of its squared gradients."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.sums = [torch.zeros(len(x), 1, dtype=x.dtype) for x in parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        for parameter, total in zip(self.parameters, self.sums, strict=True):
            assert parameter.grad is not None
            total += parameter.grad.square().mean(dim=1, keepdim=True)
            parameter.data -= LEARNING_RATE * parameter.grad / (total.sqrt() + 1e-8)


def gathered(ranks: list[Outcome]) -> dict[str, Tensor]:
    whole = {name: torch.full(shape, torch.nan) for name, shape in TABLES.items()}
    for outcome in ranks:
        for name, shards in outcome.weights.items():
            for row, column, x in shards:
                whole[name][row : row + x.shape[0], column : column + x.shape[1]] = x
    return whole


def largest_error(case: Case, ranks: list[Outcome]) -> float:
    weights = gathered(ranks)
    return max((weights[name] - x).abs().max().item() for name, x in oracle(case)[1].items())


def like(case: Case, **changes: object) -> bool:
    return all(getattr(case, name) == value for name, value in changes.items())


EVEN = [case for case in CASES if case.batch_sizes == (4, 4)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_equals_embedding_bags(case: Case, outcomes: Outcomes) -> None:
    for name, expected in oracle(case)[0].items():
        actual = torch.cat([outcome.forward[name] for outcome in outcomes[case]])
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


TRAINED_ALIKE = [
    case
    for case in CASES
    if not (case.sharding_type == "row_wise" and case.batch_sizes in UNEVEN)
    and not (case.sharding_type in CUT_BY_COLUMNS and case.optimizer == "rowwise_adagrad")
]


@pytest.mark.parametrize("case", TRAINED_ALIKE, ids=str)
def test_trained_weights_equal_the_float64_oracle(case: Case, outcomes: Outcomes) -> None:
    assert largest_error(case, outcomes[case]) < 1e-5
    moved = gathered(outcomes[case])
    assert all((moved[name] != x).any() for name, x in first_weights().items())


@pytest.mark.parametrize("kind", CUT_BY_COLUMNS)
def test_rowwise_adagrad_depends_on_column_cuts(kind: ShardingType, outcomes: Outcomes) -> None:
    case = Case(sharding_type=kind, optimizer="rowwise_adagrad")
    assert largest_error(case, outcomes[case]) > 1e-3


@pytest.mark.parametrize("sizes", UNEVEN, ids=str)
def test_gloo_refuses_uneven_batches_of_row_shards(
    sizes: tuple[int, int], outcomes: Outcomes
) -> None:
    case = Case(sharding_type="row_wise", optimizer="adagrad", batch_sizes=sizes, num_steps=1)
    assert all("invalid tensor size" in outcome.error for outcome in outcomes[case])


@pytest.mark.parametrize("case", [c for c in EVEN if c.sharding_type != "data_parallel"], ids=str)
def test_reported_bytes_are_the_bytes_allocated(case: Case, outcomes: Outcomes) -> None:
    workload = Workload(batch_size=4, optimizer=case.optimizer)
    tables = [table(name, *shape) for name, shape in TABLES.items()]
    config = ShardingConfig(types=(case.sharding_type,))
    ranks = report(place(tables, local(2), config, workload), local(2), workload).ranks
    assert [rank.bytes for rank in ranks] == [x.table_bytes for x in outcomes[case]]


@pytest.mark.parametrize(
    ("kind", "names"),
    [("table_wise", ["momentum1"]), ("row_wise", ["momentum1"]), ("column_wise", ["momentum1"])],
)
def test_fused_state_is_named_by_table(
    kind: ShardingType, names: list[str], outcomes: Outcomes
) -> None:
    state: dict[str, list[str]] = {}
    for outcome in outcomes[Case(sharding_type=kind, optimizer="adagrad")]:
        state |= outcome.state_keys
    assert state == {
        f"0.embedding_bags.{table}.weight": [f"{table}.{name}" for name in names]
        for table in TABLES
    }


def test_data_parallel_tables_have_no_fused_state(outcomes: Outcomes) -> None:
    case = Case(sharding_type="data_parallel", optimizer="adagrad")
    assert [outcome.state_keys for outcome in outcomes[case]] == [{}, {}]


@pytest.mark.parametrize("case", ROUNDED, ids=str)
def test_rounded_vectors_and_gradients_are_off_by_their_rounding(
    case: Case, outcomes: Outcomes
) -> None:
    forward, weights = oracle(case)
    rounding = ROUNDING[case.comms]
    for name, exact in forward.items():
        actual = torch.cat([outcome.forward[name] for outcome in outcomes[case]]).double()
        # A vector may be summed from one rounded part a rank, of at most 3 rows each.
        bound = 4 * rounding * first_weights()[name].abs().max() * 3
        assert (actual - exact).abs().max() <= bound
    moved = max((weights[name] - x).abs().max() for name, x in first_weights().items())
    gradients = ROUNDING["bf16"] if case.comms != "fp32" else rounding
    error = largest_error(case, outcomes[case])
    assert error <= 8 * (rounding + gradients) * moved + 1e-6
    if case.comms != "fp32":
        assert error > 1e-5  # it is used


@pytest.mark.parametrize("kind", ["table_wise", "row_wise"])
@pytest.mark.parametrize("comms", ["fp16", "bf16"])
def test_rounded_traffic_is_half_in_the_report_and_on_the_wire(
    kind: ShardingType, comms: Comms, outcomes: Outcomes
) -> None:
    def sent(numbers: Comms) -> int:
        case = Case(sharding_type=kind, optimizer="sgd", num_steps=1, comms=numbers)
        found = [outcome.exchanged_bytes for outcome in outcomes[case]]
        return sum(n for of_rank in found for dtype, n in of_rank.items() if "float" in dtype)

    full, half = sent("fp32"), sent(comms)
    assert half * 2 == full
    tables = [table(name, *shape) for name, shape in TABLES.items()]
    workload = Workload(batch_size=4, comms=comms, gradient_comms="bf16")
    config = ShardingConfig(types=(kind,))
    ranks = report(place(tables, local(2), config, workload), local(2), workload).ranks
    assert half == 2 * sum(rank.sent_bytes_per_step for rank in ranks)  # gradients come back
