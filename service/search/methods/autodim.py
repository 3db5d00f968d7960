"""``mixdim search autodim``: a super-net that learns how wide fields should be, and its argmax."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from models.embeddings.choice import Alternation
from models.embeddings.choices import AutoDimChoice
from models.sizing.searched import Searched
from service.search.methods.base import Found, candidates_up_to

if TYPE_CHECKING:
    from service.search.search import Search
    from service.search.stage import Stage

SLOWEST_DECAY: Final = 5e-5
"""Fall of the temperature for every 2,000 examples, as published."""
TICK: Final = 2000
PUBLISHED_WEIGHT_STEPS: Final = 10
LEAST_WEIGHT_STEPS: Final = 2
"""With twice the epochs, fewer would make a search cost more than three trainings."""
PUBLISHED_LR: Final = 1e-3
ENOUGH_STEPS: Final = 400
"""Steps that a choice needs, for every one sees one draw of noise and one batch."""
JOURNEY: Final = 14.0
"""How far a logit of the choice can move in all of its steps, which Adam makes as long as its rate:
far enough to overrule the noise of a Gumbel distribution several times."""
LARGEST_LR: Final = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoDimOptions:
    """What both forms of the method ask."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    split: ClassVar[Literal["validation", "train"]] = "validation"

    kind: str

    candidates: tuple[int, ...] = (2, 8, 16, 24, 32)
    """Widths to choose from; those above --dim are left out, --dim itself is always one."""

    tables: Literal["shared", "separate"] = "shared"
    """One table a field, whose first columns are the narrow candidates, or one a candidate."""

    unify: Literal["linear", "pad"] = "linear"
    """How candidates become equally wide: by a matrix each, or with zeros."""

    epochs: int = 0
    """Epochs of the super-net; 0 for twice as many as the plan is trained for: what width does no
    harm is not told from what is of use before there is something to overfit."""

    pretrain: float = 0.2
    """Share of them in which all candidates weigh the same and only weights learn."""

    lr: float = 0.0
    """Learning rate of the choice, by Adam; 0 for what its number of steps asks for: 14 / steps,
    from the published 0.001 up to 0.1."""

    start: Literal["fresh", "slices"] = "fresh"
    """What the plan is trained from: nothing, as published, or the super-net's layers and the
    columns of the widths that are found."""

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs={self.epochs}, expected 0 or more; try 1")
        if not 0 <= self.pretrain < 1:
            raise ValueError(f"pretrain={self.pretrain}, expected in [0, 1); try 0.2")
        if self.lr < 0:
            raise ValueError(f"lr={self.lr}, expected a positive number, or 0 for 14 / steps")
        AutoDimChoice(candidates=self.candidates)  # raises where they are none

    @property
    def needs_validation(self) -> bool:
        """Whether the choice learns from validation examples."""
        return self.split == "validation"

    def weight_steps_between(self, num_steps: int) -> int:  # noqa: ARG002
        """Steps of the weights between two of the choice, in a search of so many."""
        return 1

    @property
    def look_ahead(self) -> float:
        """Step of the weights that the choice looks ahead by."""
        return 0.0

    def run(self, search: "Search") -> Found:
        """Train the super-net, and take every field's likeliest width, or what fits the budget."""
        if self.start == "slices":
            self._check_slices(search)
        choice = self._choice(search)
        search.check_budget(choice.candidates)
        epochs = self._epochs(search)
        stage = search.train_super_net(search.uniform(), choice, epochs)
        theta = search.measure("choice", lambda: (_theta(stage, choice), 0))
        fields = [stats.name for stats in search.fields]
        logs = dict(zip(fields, log_softmax(theta), strict=True))
        values = {
            name: dict(zip(choice.candidates, map(float, row), strict=True))
            for name, row in logs.items()
        }
        asked = {name: likeliest(of) for name, of in values.items()}
        reasons = {
            name: f"{np.exp(of[asked[name]]):.1%} of the choice is {asked[name]}"
            for name, of in values.items()
        }
        scheme = Searched(method=self.kind, asked=asked, worth=values, reasons=reasons)
        notes = {"theta": dict(zip(fields, theta, strict=True))}
        sizing = search.size(scheme)
        retrain: dict[str, Any] = {}
        if self.start == "slices":
            columns = {
                name: tuple(range(blocks[0].embedding_dim))
                for name, blocks in sizing.fields.items()
            }
            retrain = {"warm_start": stage.folder, "warm_columns": columns}
        return Found(sizing=sizing, values=values, notes=notes, retrain=retrain)

    def _check_slices(self, search: "Search") -> None:
        if self.tables != "shared":
            raise ValueError(
                "start='slices' are the first columns of tables that candidates share, and "
                "tables='separate' has one for each; give --method.tables shared or "
                "--method.start fresh"
            )
        if search.config.train.network.join == "pad":
            raise ValueError(
                "start='slices' needs a matrix for every field, and this network pads fields; "
                "give --network.join project or --method.start fresh"
            )

    def _choice(self, search: "Search") -> AutoDimChoice:
        config = search.config
        num_examples = search.num_examples(self._epochs(search))
        pretrained = round(self.pretrain * num_examples)
        weight_steps, lr = self._pace(search)
        return AutoDimChoice(
            candidates=candidates_up_to(config.dim, self.candidates),
            tables=self.tables,
            unify=self.unify,
            # A search of fewer than 40 million examples would end while its choice is still soft.
            decay=min(max(SLOWEST_DECAY, TICK / max(num_examples - pretrained, TICK + 1)), 0.5),
            alternation=Alternation(
                weight_steps=weight_steps,
                split=self.split,
                lr=lr,
                step_size=self.look_ahead,
                pretrain_examples=pretrained,
            ),
        )

    def _epochs(self, search: "Search") -> int:
        return self.epochs or 2 * search.config.train.epochs

    def _pace(self, search: "Search") -> tuple[int, float]:
        """Steps of the weights between two of the choice, and its rate."""
        train = search.config.train
        num_examples = (1 - self.pretrain) * search.num_examples(self._epochs(search))
        num_steps = round(num_examples / (train.batch_size * train.nproc))
        weight_steps = self.weight_steps_between(num_steps)
        of_choice = max(1, num_steps // weight_steps)
        return weight_steps, self.lr or min(max(PUBLISHED_LR, JOURNEY / of_choice), LARGEST_LR)


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoDim(AutoDimOptions):
    """A soft choice among widths, learned from validation examples in turns with the weights."""

    kind: Literal["autodim"] = "autodim"

    weight_steps: int = 0
    """Steps of the weights between two of the choice; 0 for the published 10, or fewer, down to 2,
    where the choice would else make less than 400 steps, each on a batch of validation."""

    step_size: float = 0.0
    """Step of the weights that the choice looks ahead by (second order); 0 for the first order. Not
    0, tables must be data-parallel: --sharding.types data_parallel."""

    def __post_init__(self) -> None:
        AutoDimOptions.__post_init__(self)  # with slots, super() would find no class
        if self.weight_steps < 0:
            raise ValueError(f"weight_steps={self.weight_steps}, expected 0 or more; try 10")

    def weight_steps_between(self, num_steps: int) -> int:
        """Steps of the weights between two of the choice, in a search of so many."""
        enough = num_steps // ENOUGH_STEPS
        return self.weight_steps or min(max(LEAST_WEIGHT_STEPS, enough), PUBLISHED_WEIGHT_STEPS)

    @property
    def look_ahead(self) -> float:
        """Step of the weights that the choice looks ahead by."""
        return self.step_size


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoDimS(AutoDimOptions):
    """AutoDim's ablation: weights and choice learn together, from the same training examples."""

    split: ClassVar[Literal["validation", "train"]] = "train"

    kind: Literal["autodim-s"] = "autodim-s"


def log_softmax(theta: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Logarithm of every candidate's share, ``(F, N)``."""
    rows = np.asarray(theta, dtype=np.float64)
    return rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)


def likeliest(values: Mapping[int, float]) -> int:
    """The width with the largest value, the smallest of equals."""
    return max(sorted(values), key=lambda width: values[width])


def _theta(stage: "Stage", choice: AutoDimChoice) -> list[list[float]]:
    """The logits of the choice at the end of the super-net's training, by field."""
    from service.checkpoint import StoredTensors, last_checkpoint
    from service.warm_up import EMBEDDINGS

    path = last_checkpoint(stage.folder / "checkpoints")
    assert path is not None  # a stage that has ended has left one
    theta = StoredTensors(path).read(f"{EMBEDDINGS}mixture.theta")
    assert theta.shape[1] == len(choice.candidates)
    found: list[list[float]] = theta.tolist()
    return found
