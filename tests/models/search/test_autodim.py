"""AutoDim's super-net against the specification's numbers and plain loops."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.embeddings.choice import Surroundings
from models.embeddings.choices import AutoDimChoice
from models.search.autodim import Mixture, gumbel_softmax, temperature, unit_length
from models.tables import Block, SizingPlan
from models.turn import Turn
from service.data.batch import FeatureBuilder
from service.data.examples import Columns, ListColumn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden/autodim.json").read_text())
CANDIDATES = (2, 8, 16, 24, 32)
ROWS = {"a": 7, "b": 30, "c": 12}
IDS = np.array([[1, 0, 6, 2], [29, 3, 3, 15]], dtype=np.int32)
BAGS = ListColumn(
    lengths=np.array([2, 0, 1, 3], dtype=np.int32), values=np.array([5, 5, 0, 1, 2, 11], np.int32)
)


def plan_of(width=32, rows=ROWS):
    blocks = {n: (Block(num_embeddings=r, embedding_dim=width, asked_dim=width),) for n, r in rows}
    return SizingPlan(fields=blocks, out_dim=width)


def embeddings_of(pooling="sum", **options):
    choice = AutoDimChoice(**options)
    torch.manual_seed(0)
    made = choice.build(Surroundings(plan=plan_of(rows=ROWS.items()), pooling={"c": pooling}))
    return choice, made


def features_of(choice):
    columns = Columns(
        labels=np.zeros(4, np.float32), dense=np.zeros((4, 0), np.float32), ids=IDS, lists=(BAGS,)
    )
    return FeatureBuilder(choice.layout(plan_of(rows=ROWS.items())), ["c"])(columns)


@pytest.mark.parametrize(("tick", "expected"), GOLDEN["autodim_tau"].items())
def test_temperature_falls_as_published(tick, expected):
    assert temperature(int(tick) * 2000, 5e-5) == pytest.approx(expected)


@pytest.mark.parametrize("cold", ["1.0", "0.5", "0.1", "0.01"])
def test_gumbel_softmax_gives_the_golden_shares(cold):
    golden = GOLDEN["autodim_gumbel"]
    theta, noise = (torch.tensor([golden[k]], dtype=torch.float64) for k in ("theta", "u"))
    found = gumbel_softmax(theta, noise, float(cold))
    assert found[0].tolist() == pytest.approx(golden[f"p_tau={cold}"])
    assert float(found.sum()) == pytest.approx(1)


def test_extreme_noise_stays_finite():
    noise = torch.tensor([[0.0, 1.0 - 2**-24, 0.5]])
    assert gumbel_softmax(torch.zeros(1, 3), noise, 0.01).isfinite().all()


def test_shares_follow_the_softmax_of_theta():
    theta = torch.tensor([[0.2, -0.1, 0.5, 0.0, -0.4]], dtype=torch.float64)
    torch.manual_seed(0)
    noise = torch.rand(20_000, 5, dtype=torch.float64)
    picked = gumbel_softmax(theta.expand(20_000, 5), noise, 0.01).argmax(dim=1).bincount() / 20_000
    assert picked.tolist() == pytest.approx(GOLDEN["autodim_gumbel"]["alpha"], abs=0.015)


def candidates_of(vectors, mixture, widths):
    """Every candidate's vectors at the common width, before they are normalised."""
    is_shared, matrices = vectors.shape[-1] == widths[-1], mixture.unify.split(list(widths))
    own = [vectors[..., :width] for width in widths] if is_shared else vectors.split(widths, dim=-1)
    return [columns @ matrix for columns, matrix in zip(own, matrices, strict=True)]


def test_normalisation_has_the_golden_values_and_no_parameters():
    golden = GOLDEN["autodim_bn_noaffine"]
    mixture = Mixture(1, (1, 2), is_shared=True, pads=True)
    assert [name for name, _ in mixture.named_parameters()] == ["theta"]
    certain(mixture, [1])
    found = mixture(torch.tensor(golden["x"])[:, None], None) / unit_length(1, 2)
    assert found.tolist() == [pytest.approx(row, abs=1e-5) for row in golden["y"]]


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("pads", [True, False])
def test_the_mixture_is_that_of_torchs_normalised_candidates(is_shared, pads):
    torch.manual_seed(0)
    widths, width = (2, 4, 8), 8 if is_shared else 14
    mixture = Mixture(3, widths, is_shared=is_shared, pads=pads)
    norms = [nn.BatchNorm1d(8, affine=False) for _ in widths]
    for step in range(4):
        if step == 3:
            mixture.eval()
            for norm in norms:
                norm.eval()
        vectors = (torch.randn(6, 3, width) * 2 + 1).requires_grad_()
        mixture.turn = Turn(step=step)
        shares = mixture.shares()
        normalised = [
            norm(x.flatten(0, 1)).view_as(x)
            for norm, x in zip(norms, candidates_of(vectors, mixture, widths), strict=True)
        ]
        slow = torch.einsum("fn,nbfd->bfd", shares, torch.stack(normalised)).flatten(1)
        slow = slow * unit_length(3, 8)
        fast = mixture(vectors, None)
        assert torch.allclose(fast, slow, atol=2e-5)
        goal, parameters = torch.randn_like(fast), [vectors, *mixture.parameters()]
        wanted = torch.autograd.grad((slow * goal).sum(), parameters, retain_graph=True)
        for got, want in zip(
            torch.autograd.grad((fast * goal).sum(), parameters), wanted, strict=True
        ):
            assert torch.allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("num_fields", "widths"), [(3, (4, 8)), (12, (1, 16)), (39, (8, 32))])
def test_interactions_of_normalised_fields_begin_as_large_as_logits(num_fields, widths):
    torch.manual_seed(0)
    mixture = Mixture(num_fields, widths, is_shared=True, pads=False)
    certain(mixture, [1] * num_fields)
    fields = mixture(torch.randn(2000, num_fields, widths[-1]), None).unflatten(1, (num_fields, -1))
    dots = torch.einsum("bfd,bgd->bfg", fields, fields).triu(1).sum(dim=(1, 2))
    assert (
        0.5 < float(dots.detach().std()) < 3
    )  # candidates are not isotropic; without lengths: 14 to 154


def test_running_figures_rest_while_the_architecture_learns():
    mixture = Mixture(2, (2, 4), is_shared=True, pads=False)
    mixture.turn = Turn(moves_weights=False, moves_architecture=True)
    mixture(torch.randn(5, 2, 4), None)
    assert not mixture.mean.any()


def certain(mixture, chosen):
    """Let the choice be certain."""
    with torch.no_grad():
        mixture.theta.fill_(-50.0)
        mixture.theta[torch.arange(len(chosen)), chosen] = 50.0


@pytest.mark.parametrize("tables", ["shared", "separate"])
@pytest.mark.parametrize("unify", ["linear", "pad"])
@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_a_field_is_the_mixture_of_its_candidates(tables, unify, pooling):
    choice, embeddings = embeddings_of(pooling, tables=tables, unify=unify)
    with torch.no_grad():
        embeddings.mixture.theta.normal_()
    embeddings.eval()
    found = embeddings(features_of(choice)).side_by_side.view(4, 3, 32)
    assert torch.allclose(found, looped(choice, embeddings, pooling), atol=1e-5)


def looped(choice, embeddings, pooling):
    """The same by loops over examples, fields and candidates, from the rows of the tables."""
    rows = {name: bag.weight for name, bag in embeddings.tables.embedding_bags.items()}
    starts = np.cumsum([0, *BAGS.lengths])
    bags = {"a": IDS[0][:, None], "b": IDS[1][:, None]}
    bags["c"] = [BAGS.values[starts[b] : starts[b + 1]] for b in range(4)]
    shares = torch.softmax(embeddings.mixture.theta, dim=1)
    found = torch.zeros(4, 3, 32)
    for b in range(4):
        for m, name in enumerate(ROWS):
            for n, width in enumerate(CANDIDATES):
                own = rows[name if choice.tables == "shared" else f"{name}~{width}"]
                own = own if choice.tables == "shared" else own.reshape(-1, width)
                ids = torch.as_tensor(bags[name][b]).long()
                x = own[ids, :width].sum(dim=0)
                if name == "c" and pooling == "mean" and len(ids):
                    x = x / len(ids)
                if choice.unify == "linear":
                    x = x @ embeddings.mixture.unify.split(CANDIDATES)[n]
                x = x / np.sqrt(1 + 1e-5)  # running figures of a start: mean 0, variance 1
                x = x * (32 * 3) ** -0.25  # 32 wide, 3 pairs of fields
                found[b, m, : len(x)] += shares[m, n] * x
    return found


@pytest.mark.parametrize("cold", [1e-3, 1e-2])
def test_a_certain_choice_is_the_chosen_candidate(cold):
    mixture = Mixture(2, (2, 4), is_shared=True, pads=False)
    certain(mixture, [0, 1])
    mixture.temperature = cold
    vectors = torch.randn(5, 2, 4)
    norm = nn.BatchNorm1d(4, affine=False)
    narrow, wide = (
        norm(x.flatten(0, 1)).view_as(x).detach() for x in candidates_of(vectors, mixture, (2, 4))
    )
    found = mixture(vectors, None).view(5, 2, 4) / unit_length(2, 4)
    assert torch.allclose(found[:, 0], narrow[:, 0], atol=1e-5)
    assert torch.allclose(found[:, 1], wide[:, 1], atol=1e-5)


def test_every_step_draws_its_own_noise_and_every_rank_the_same():
    mixture = Mixture(3, (4, 8), is_shared=True, pads=False)
    draws = []
    for turn in (Turn(step=1), Turn(step=1), Turn(step=2), Turn(step=1, moves_architecture=True)):
        mixture.turn = turn
        torch.manual_seed(len(draws))
        draws.append(mixture.shares())
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])
    assert not torch.allclose(draws[0], draws[3])


def test_candidates_weigh_the_same_until_the_search_begins():
    _, embeddings = embeddings_of(candidates=(8, 32))
    embeddings.pretrain_examples = 4000
    for num_examples, expected in ((0, None), (4000, None), (6000, 1 - 5e-5), (404_000, 0.99)):
        embeddings.take_turn(Turn(num_examples=num_examples))
        assert embeddings.mixture.temperature == (expected and pytest.approx(expected))
    embeddings.take_turn(Turn())
    shares = embeddings.mixture.shares()
    assert torch.equal(shares, torch.full((3, 2), 0.5))


@pytest.mark.parametrize("tables", ["shared", "separate"])
def test_weights_are_counted_as_specified(tables):
    _, embeddings = embeddings_of(tables=tables)
    rows, expected = sum(ROWS.values()), GOLDEN["autodim_supernet_params"]
    params = {name: p.numel() for name, p in embeddings.named_parameters()}
    # Tables of width 2 are packed: a table of 7 rows has a half stored row to spare.
    spare = 0 if tables == "shared" else 2
    in_tables = sum(n for name, n in params.items() if name.startswith("tables"))
    assert in_tables == rows * expected[tables][0] // 1_086_810 + spare
    biases = len(CANDIDATES) * CANDIDATES[-1]  # which normalisation would take away again
    assert sum(n for name, n in params.items() if "unify" in name) == expected[tables][1] - biases
    assert params["mixture.theta"] * 13 == expected[tables][2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": (8,)}, "expected two or more rising widths"),
        ({"candidates": (8, 4)}, "expected two or more rising widths"),
        ({"candidates": (6, 32)}, "each 1, 2 or a multiple of 4"),
        ({"decay": 1.0}, r"decay=1.0, expected in \[0, 1\)"),
    ],
)
def test_choices_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AutoDimChoice(**options)
