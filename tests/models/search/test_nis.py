"""NIS's controller against enumeration and loops, and what its super-net shows."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from models.embeddings.choice import Surroundings
from models.search.choices import NISChoice
from models.search.nis import MOMENTUM, Controller
from models.search.nis_options import cells_of, reward
from models.tables import Block, SizingPlan
from models.turn import Turn
from service.data.batch import FeatureBuilder
from service.data.examples import Columns, ListColumn

WIDTH = 8
ROWS = {"a": [7], "b": [3, 12, 15], "c": [2, 10]}
IDS = np.array([[1, 0, 6, 2], [29, 3, 2, 15]], dtype=np.int32)
BAGS = ListColumn(
    lengths=np.array([2, 0, 1, 3], dtype=np.int32), values=np.array([5, 1, 0, 1, 2, 11], np.int32)
)


def plan_of(rows=ROWS, width=WIDTH):
    blocks = {
        name: tuple(Block(num_embeddings=n, embedding_dim=width, asked_dim=width) for n in own)
        for name, own in rows.items()
    }
    return SizingPlan(fields=blocks, out_dim=width)


def embeddings_of(pooling="sum", **options):
    torch.manual_seed(0)
    choice = NISChoice(**{"column_blocks": 2} | options)
    return choice.build(Surroundings(plan=plan_of(), pooling={"c": pooling}))


def features():
    columns = Columns(
        labels=np.zeros(4, np.float32), dense=np.zeros((4, 0), np.float32), ids=IDS, lists=(BAGS,)
    )
    return FeatureBuilder(plan_of(), ["c"])(columns)


def controller_of(rows, sizes, column_blocks=2, seed=0):
    controller = Controller(rows, sizes, column_blocks)
    torch.manual_seed(seed)
    with torch.no_grad():
        controller.theta.normal_()
    return controller.double()


def every_draw(controller):
    """All that can be drawn, ``(F, J)`` each."""
    is_option = controller.is_option.flatten(0, 1)
    choices = [torch.nonzero(own)[:, 0].tolist() for own in is_option]
    return [torch.tensor(way).view(controller.is_option.shape[:2]) for way in product(*choices)]


@pytest.mark.parametrize("sizes", ["single", "multi"])
def test_the_expected_step_is_the_gradient_of_the_expected_reward(sizes):
    controller = controller_of([[3, 4], [5]], sizes)
    rng, exact, expected = np.random.default_rng(0), 0.0, torch.zeros_like(controller.theta)
    shares = controller.log_shares().exp()
    total = 0.0
    for drawn in every_draw(controller):
        earned = float(rng.normal())
        share = shares.gather(2, drawn[..., None]).prod()
        exact = exact + share * earned
        controller._drawn = drawn
        (gradient,) = torch.autograd.grad(controller.log_share(), controller.theta)
        expected += share.detach() * (earned - 0.7) * gradient  # any baseline, by expectation none
        total += share.item()
    (gradient,) = torch.autograd.grad(exact, controller.theta)
    assert total == pytest.approx(1)
    assert torch.allclose(expected, gradient, atol=1e-12)
    assert not gradient[~controller.is_option].any()


@pytest.mark.parametrize("sizes", ["single", "multi"])
def test_options_are_drawn_by_their_shares(sizes):
    controller, num_draws = controller_of([[3, 4], [5]], sizes), 4000
    seen = Counter()
    for step in range(num_draws):
        controller.draw(Turn(step=step).generator())
        seen[tuple(controller._drawn.flatten().tolist())] += 1
    shares = controller.log_shares().detach().exp()
    statistic, degrees = 0.0, -1
    for drawn in every_draw(controller):
        expected = num_draws * float(shares.gather(2, drawn[..., None]).prod())
        observed = seen.pop(tuple(drawn.flatten().tolist()), 0)
        statistic, degrees = statistic + (observed - expected) ** 2 / expected, degrees + 1
    assert not seen, "nothing is drawn that a field has not"
    assert statistic < degrees + 4 * np.sqrt(2 * degrees)  # 4 sigma of chi squared


@pytest.mark.parametrize(("sizes", "options"), [("single", 0), ("multi", 0), ("multi", 1)])
def test_cost_is_the_share_of_weights_that_are_drawn(sizes, options):
    controller = controller_of(list(ROWS.values()), sizes)
    controller._drawn = torch.full((3, controller.is_option.shape[1]), options)
    shown = rows = 0
    for own in ROWS.values():
        cells = cells_of(sizes, len(own), 2)
        on = cells[:, options].any(axis=0) if options < cells.shape[1] else np.zeros((len(own), 2))
        shown += sum(n * columns.mean() for n, columns in zip(own, on, strict=True))
        rows += sum(own)
    assert controller.cost_ratio() == pytest.approx(shown / rows)


@pytest.mark.parametrize(("cost", "expected"), [(1.5, 0.3), (0.9, 0.8)])
def test_reward_is_the_specifications(cost, expected):
    assert reward(0.8, cost * 0.25, 0.25, 1.0) == pytest.approx(expected)


def test_advantage_is_over_the_moving_average_of_earlier_rewards():
    controller, earned = controller_of([[3]], "single"), [0.5, -0.2, 0.9, 0.4]
    for index, value in enumerate(earned):
        weights = [MOMENTUM ** (index - 1 - k) for k in range(index)]
        mean = np.dot(weights, earned[:index]) / sum(weights) if index else value
        assert controller.advantage(value) == pytest.approx(value - mean)


def looped(embeddings, cells, pooling):
    """Vectors by loops over examples, ids and columns, from the rows of the tables."""
    found = torch.zeros(4, 3, WIDTH)
    starts = np.cumsum([0, *BAGS.lengths])
    for field, (name, own) in enumerate(ROWS.items()):
        ends = np.cumsum(own)
        for example in range(4):
            bag = BAGS.values[starts[example] : starts[example + 1]]
            bag = bag if name == "c" else [IDS[field, example]]
            for i in bag:
                block = int(np.searchsorted(ends, i, side="right"))
                table = name if len(own) == 1 else f"{name}/{block}"
                row = embeddings.tables.embedding_bags[table].weight[i - ends[block] + own[block]]
                for column in range(WIDTH):
                    is_on = cells[field, block, column * 2 // WIDTH]
                    found[example, field, column] += row[column] * is_on
            if name == "c" and pooling == "mean" and len(bag):
                found[example, field] /= len(bag)
    return found


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("sizes", ["single", "multi"])
def test_vectors_have_the_cells_that_are_drawn(sizes, pooling):
    embeddings = embeddings_of(pooling, sizes=sizes)
    for step in range(5):
        embeddings.take_turn(Turn(step=step, num_examples=1))
        cells = embeddings.controller()
        found = embeddings(features()).side_by_side.view(4, 3, WIDTH)
        assert torch.allclose(found, looped(embeddings, cells, pooling), atol=1e-6)
    assert set(cells.unique().tolist()) <= {0.0, 1.0}


def test_all_is_on_until_the_search_begins_and_the_likeliest_in_evaluation():
    embeddings = embeddings_of()
    embeddings.take_turn(Turn())
    everything = torch.ones(3, 3, 2)
    everything[0, 1:] = everything[2, 2:] = 0  # blocks that these fields have not
    assert torch.equal(embeddings.controller(), everything)
    embeddings.eval()
    assert torch.equal(embeddings.controller(), everything), "the first of equals"
    with torch.no_grad():
        embeddings.controller.theta[1, 1, 2] = 1.0
    everything[1, 1:, 1] = 0
    assert torch.equal(embeddings.controller(), everything)


def test_what_is_not_drawn_does_not_learn():
    embeddings = embeddings_of()
    embeddings.take_turn(Turn())
    embeddings.controller._drawn = torch.tensor([[0, 0], [1, 3], [2, 2]])
    embeddings.objective(embeddings(features()).side_by_side.square().sum()).backward()
    learns = {name: bag.weight.grad for name, bag in embeddings.tables.embedding_bags.items()}
    assert learns["a"].any()
    assert learns["b/0"][:, :4].any()
    assert not learns["b/0"][:, 4:].any()
    assert learns["b/1"][:, :4].any()
    assert not learns["b/2"].any()
    assert not learns["c/0"].any()
    assert not embeddings.controller.theta.grad.any(), "nor does the controller, in this turn"


def test_the_controllers_turn_has_the_gradient_of_the_reward_alone():
    embeddings = embeddings_of(budget_ratio=0.1, penalty=0.5)
    embeddings.controller.advantage(-2.0)
    embeddings.take_turn(Turn(step=3, moves_weights=False, moves_architecture=True))
    loss = embeddings(features()).side_by_side.sum() + 0.7
    cost = embeddings.controller.cost_ratio()
    earned = -loss.item() - 0.5 * max(0, cost / 0.1 - 1)
    (expected,) = torch.autograd.grad(
        embeddings.controller.log_share(), embeddings.controller.theta
    )
    embeddings.objective(loss).backward()
    found = embeddings.controller.theta.grad
    assert torch.allclose(found, -(earned + 2.0) * expected, atol=1e-6)


def test_a_controller_learns_what_pays():
    controller = Controller([[10, 90], [10, 90]], "multi", 2)
    adam = torch.optim.Adam(controller.parameters(), lr=0.05)
    for step in range(600):
        controller.draw(Turn(step=step).generator())
        cells = controller()
        quality = float(cells[0].sum()) * 0.1  # the second field is noise
        advantage = controller.advantage(reward(quality, controller.cost_ratio(), 0.6, 1.0))
        adam.zero_grad()
        (-advantage * controller.log_share()).backward()
        adam.step()
    shown = controller.cells_at(controller.likeliest())
    assert shown[0].all()
    assert not shown[1, 1].any(), "rare rows of noise cost and give nothing"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column_blocks": 0}, "column_blocks=0, expected at least 1"),
        ({"budget_ratio": 0.0}, r"budget_ratio=0.0, expected in \(0, 1\]"),
        ({"penalty": -1.0}, "penalty=-1.0, expected 0 or more"),
    ],
)
def test_choices_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NISChoice(**options)


def test_plans_that_it_cannot_search_below_are_refused():
    with pytest.raises(ValueError, match="8 columns cannot be cut into 3 blocks"):
        NISChoice(column_blocks=3).layout(plan_of())
    shared = (Block(num_embeddings=1, embedding_dim=8, asked_dim=8, hashed_ids=6),)
    plan = SizingPlan(fields={"a": shared}, out_dim=8)
    with pytest.raises(ValueError, match="NIS searches below tables of 8 with a row an id"):
        NISChoice().layout(plan)
