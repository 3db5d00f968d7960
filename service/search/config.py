"""What a search is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from models.sizing.base import check_width
from service.config import TrainConfig
from service.data.dataset import DatasetInfo
from service.first_fault import first_fault
from service.search.methods import Method
from service.search.methods.random_search import RandomSearch
from service.sizing import DEFAULT_BASE_DIM

SET_BY_SEARCH: Final = (
    *("sizing", "plan", "embeddings", "warm_start", "warm_columns"),
    *("resume_from", "resume_data", "global_batch_size"),
)
"""Settings of a training that every stage gets from the search."""
FREE_ON_RESUME: Final = frozenset(
    {"output", "resume", "overwrite", "max_restarts", "metrics_port", "metrics_host"}
    | {"hang_timeout", "log_every", "profile", "keep_checkpoints", "checkpoint_every"}
    | {"checkpoint_async", "log_to", "global_batch_size"}
)
"""Settings of the training that a resumed search may change: they do not change what is found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """Find the width of every table by training."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    train: TrainConfig = field(default_factory=TrainConfig)
    """How stages are trained; its dataset is searched on, its output is the search's folder."""

    method: Annotated[Method, Field(discriminator="kind")] = field(default_factory=RandomSearch)
    """How to search, with the method's own options."""

    budget: str | None = None
    """Bytes of training that the plan never exceeds: 512MiB, 1000000, or 4x smaller than uniform;
    none for the method's own rule."""

    dim: int = DEFAULT_BASE_DIM
    """Widest table, and width that narrower ones are projected to; that of the uniform model that
    4x is measured against."""

    fields: tuple[str, ...] = ()
    """Fields to size and to train with; all by default."""

    retrain: bool = True
    """Train the plan that is found."""

    def __post_init__(self) -> None:
        check_width("dim", self.dim)
        default = TrainConfig()
        for name in SET_BY_SEARCH:
            if getattr(self.train, name) != getattr(default, name):
                raise ValueError(
                    f"{name}={getattr(self.train, name)} is given, but a search sets it for every "
                    f"training itself; leave it out"
                )

    @property
    def asked(self) -> dict[str, Any]:
        """What decides about the result, as JSON has it."""
        content = _ADAPTER.dump_python(self, mode="json")
        content["train"] = {k: v for k, v in content["train"].items() if k not in FREE_ON_RESUME}
        del content["retrain"]
        return content  # type: ignore[no-any-return]  # pydantic's word for a dictionary

    def check_validation(self, info: DatasetInfo) -> None:
        """Refuse data without validation examples, if the method judges by them.

        Args:
            info: The dataset's description.

        Raises:
            ValueError: If there are none.
        """
        if self.method.needs_validation and not info.has_rows("validation"):
            raise ValueError(
                f"{self.train.data} has no validation examples, and {self.method.kind} judges by "
                f"them; prepare with --fractions 0.8 0.1 0.1"
            )

    def check_same(self, before: Mapping[str, Any]) -> None:
        """Refuse to go on with a search that was asked something else.

        What an earlier version did not know has its default. The dataset may have moved: its
        content decides.

        Raises:
            ValueError: If something differs that decides about the result.
        """
        try:
            earlier = _ADAPTER.validate_python(before)
            there = replace(earlier, train=replace(earlier.train, data=self.train.data))
            different = _first_difference(there.asked, self.asked)
        except ValidationError as error:
            different = first_fault(error)
        if different:
            raise ValueError(
                f"{self.train.output} holds a search that was asked something else: {different}; "
                f"ask the same again, or give --overwrite or another --output"
            )


def _first_difference(before: Any, now: Any, *place: str) -> str | None:
    """Where two JSON values differ first, in words."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**before, **now}:
            if found := _first_difference(before.get(key), now.get(key), *place, key):
                return found
        return None
    return None if before == now else f"{'.'.join(place)} was {before!r} and is {now!r}"


_ADAPTER: Final = TypeAdapter(SearchConfig)
