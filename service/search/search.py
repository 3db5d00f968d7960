"""What a method searches with: stages that are trained and measured once, plans, the budget."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import numpy as np

from models.embeddings.choices import Embeddings
from models.sizing import Serving, SizingScheme, Uniform, parse_budget, plan_bytes, uniform_bytes
from models.sizing.searched import Searched
from models.tables import FieldStats, PlanError, SizingPlan
from service.compare.digest import digest_of
from service.config import TrainConfig
from service.data.dataset import DATASET_FILE, read_dataset_info
from service.peak_memory import PeakMemory
from service.run_folder import RunFolder, file_sha256
from service.search.config import SearchConfig
from service.search.methods import SERVED
from service.search.record import RETRAINED
from service.search.shared import SharedStages
from service.search.stage import Stage, read_stage, train_stage, write_stage
from service.sizing import SizingFile, sizing_bytes, write_sizing
from service.sizing_request import SizingRequest, chosen_fields, size_dataset

Result = TypeVar("Result")
STAGES = "stages"
PLANS = "plans"

Report = Callable[[Stage], None]


class Search:
    """A search under way: what is asked, and what its method asks of it.

    Args:
        config: What is asked.
        report: Is told of every stage as soon as it is finished, those of an earlier start too.
        shared: Trainings that are shared with other searches; none by default.
        begins: Is called once, before the first thing is trained, measured or written.

    Raises:
        FileNotFoundError: If there is no such dataset.
        ValueError: If a field is none of the dataset's, the budget is no number of bytes, or the
            method judges by validation examples and there are none.
    """

    def __init__(
        self,
        config: SearchConfig,
        report: Report,
        shared: SharedStages | None = None,
        begins: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.info = read_dataset_info(config.train.data)
        self.fields = chosen_fields(self.info.field_stats, config.fields, "--fields")
        self.folder = config.train.output
        self.stages: list[Stage] = []
        self._report, self._shared = report, shared
        self.begin = cache(begins)
        self._request = SizingRequest(
            optimizer=config.train.optimizer.sparse,
            base_dim=config.dim,
            out_dim=config.dim,
            join=config.train.network.join,
        )
        self.budget_bytes: int | None = None
        if config.budget is not None:
            served = Serving() if config.method.kind in SERVED else None
            base = uniform_bytes(self.fields, config.dim, self._request.optimizer, served)
            self.budget_bytes = parse_budget(config.budget, base)
        config.check_validation(self.info)

    def train(self, name: str, sizing: SizingFile, **changes: Any) -> Stage:
        """Train a plan; a stage that has ended is not trained again, one that was killed goes on.

        Args:
            name: The stage's; the same at every start.
            sizing: The plan.
            changes: Settings of the training that differ from the search's.

        Raises:
            Stopped: If somebody said stop; there is a checkpoint.
        """
        self.begin()
        path = self.folder / PLANS / f"{name}.json"
        write_sizing(sizing, path)
        config = replace(self.config.train, sizing=path, **changes)
        if (matmul := self._matmul()) is not None:
            config = replace(config, matmul=matmul)
        with self._folder_of(name, sizing, config) as folder:
            config = replace(config, output=folder)
            return self._once(name, folder, lambda: train_stage(name, config))

    def train_super_net(self, sizing: SizingFile, embeddings: Embeddings, epochs: int) -> Stage:
        """Train what decides on its widths meanwhile, to the end and at undiminished rates.

        Validation scores the choice that is the likeliest by then. As long as it is open scores
        may fall, which is no reason to stop, nor to slow tables and choice down.

        Args:
            sizing: All that may become of the tables.
            embeddings: Decide.
            epochs: As many as there are.
        """
        optimizer = self.config.train.optimizer
        if optimizer.schedule == "plateau":
            optimizer = replace(optimizer, schedule="constant")
        changes = {"epochs": epochs, "patience": epochs + 1, "optimizer": optimizer}
        return self.train("super-net", sizing, embeddings=embeddings, **changes)

    def measure(self, name: str, make: Callable[[], tuple[Any, int]]) -> Any:
        """Work something out once, and count what it takes.

        Args:
            name: The stage's; the same at every start.
            make: Gives what was found, as JSON, and the number of examples that it took.
        """

        def work() -> Stage:
            if (matmul := self._matmul()) is not None:
                from models.layers.linear import set_matmul

                set_matmul(matmul)  # whoever starts again at this stage computes the same
            peak = PeakMemory()
            started = time.perf_counter()
            found, num_examples = make()
            return Stage(
                name=name,
                folder=self.folder / STAGES / name,
                examples=num_examples,
                seconds=time.perf_counter() - started,
                peak_memory_bytes=peak.total_bytes,
                own_memory_bytes=peak.own_bytes,
                found=json.loads(json.dumps(found)),  # as one that starts again reads it
            )

        return self._once(name, self.folder / STAGES / name, work).found

    def uniform(self) -> SizingFile:
        """The plan of equally wide tables, ``dim`` each; the budget is not for it."""
        return self.unbounded(Uniform(dim=self.config.dim))

    def unbounded(self, scheme: SizingScheme) -> SizingFile:
        """The widths of a scheme as they are, for a stage that the budget is not for."""
        return self._sized(scheme, ())

    def fixed(self, scheme: SizingScheme, fields: Sequence[str] = ()) -> SizingFile:
        """The widths of a scheme as they are, if the budget allows them.

        Args:
            scheme: Says how wide.
            fields: Those that are kept; all by default.

        Raises:
            PlanError: If the budget does not allow them.
        """
        sizing = self._sized(scheme, fields)
        needed = sizing_bytes(sizing).training_bytes
        if self.budget_bytes is not None and needed > self.budget_bytes:
            raise PlanError(
                f"the plan that was found takes {needed:,} bytes, the budget is "
                f"{self.budget_bytes:,} bytes; give --budget {needed}",
                needed_bytes=needed,
            )
        return replace(sizing, budget=self.config.budget, budget_bytes=self.budget_bytes)

    def size(
        self,
        scheme: SizingScheme,
        fields: Sequence[str] = (),
        *,
        budget_bytes: int | None = None,
        **request: Any,
    ) -> SizingFile:
        """The plan of a scheme within the budget: the one that is worth most, if there is one.

        Args:
            scheme: Says how wide without a budget, and what widths are worth.
            fields: Those that are kept; all by default.
            budget_bytes: Another budget than the search's, for a plan on the way.
            request: Other settings of `SizingRequest`.

        Raises:
            PlanError: If nothing fits the budget.
        """
        limit = self.budget_bytes if budget_bytes is None else budget_bytes
        if limit is None:
            return self._sized(scheme, fields, **request)
        try:
            sizing = self._sized(scheme, fields, budget=str(limit), **request)
        except PlanError as error:  # it names flags of `mixdim size`
            raise PlanError(
                f"budget of {limit:,} bytes is too small: the smallest plan of "
                f"{self.config.method.kind} takes {error.needed_bytes:,} bytes; give --budget "
                f"{error.needed_bytes}, a narrower --dim, or fewer --fields",
                needed_bytes=error.needed_bytes,
            ) from error
        return replace(sizing, budget=self.config.budget) if budget_bytes is None else sizing

    def check_budget(self, widths: Sequence[int]) -> None:
        """Refuse a budget that no choice of these widths fits, before anything is trained.

        Raises:
            PlanError: If it is one.
        """
        names = [stats.name for stats in self.fields]
        worth = {name: dict.fromkeys(widths, 0.0) for name in names}
        asked = dict.fromkeys(names, self.config.dim)
        self.size(Searched(method=self.config.method.kind, asked=asked, worth=worth))

    def costs(self, widths: Sequence[int]) -> dict[str, dict[int, int]]:
        """Bytes of training by field and width, projection to ``dim`` included."""
        return {
            stats.name: {width: self._bytes_of(stats, width) for width in widths}
            for stats in self.fields
        }

    def num_examples(self, epochs: int) -> int:
        """Examples that a training of so many epochs sees: fewer, if its steps are limited."""
        train = self.config.train
        of_epochs = epochs * self.info.splits["train"].num_rows
        limit = train.max_steps * train.batch_size * train.nproc
        return min(of_epochs, limit) if limit else of_epochs

    def rng(self, purpose: str) -> np.random.Generator:
        """Chance of the search's seed, another for every purpose."""
        return np.random.default_rng([self.config.train.seed, crc32(purpose.encode())])

    @contextmanager
    def _folder_of(self, name: str, sizing: SizingFile, config: TrainConfig) -> Iterator[Path]:
        """Where a stage is trained: what is shared is called by all that decides about it."""
        if self._shared is None or name == RETRAINED:
            yield self.folder / STAGES / name
        else:
            dataset = file_sha256(config.data / DATASET_FILE)
            with self._shared.held(digest_of(dataset, sizing, config, (), {})) as folder:
                yield folder

    def _once(self, name: str, folder: Path, work: Callable[[], Stage]) -> Stage:
        self.begin()
        path = folder.with_name(f"{folder.name}.json")
        if path.is_file():
            stage = replace(read_stage(path), name=name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_stage(stage := work(), path)
        self.stages.append(stage)
        self._report(stage)
        return stage

    def _matmul(self) -> Any:
        """What the first training has chosen to multiply with; all stages do the same."""
        for stage in self.stages:
            if stage.folder.is_dir():
                return RunFolder(stage.folder).read_run().get("matmul")
        return None

    def _sized(self, scheme: SizingScheme, fields: Sequence[str], **request: Any) -> SizingFile:
        kept = tuple(stats.name for stats in self.fields if not fields or stats.name in fields)
        whole = replace(self._request, scheme=scheme, fields=kept, **request)
        return size_dataset(self.config.train.data, whole)

    def _bytes_of(self, stats: FieldStats, width: int) -> int:
        plan = SizingPlan.one_block_each([stats], {stats.name: width}, out_dim=self.config.dim)
        plan = replace(plan, join=self._request.join)
        return plan_bytes(plan, self._request.optimizer).training_bytes
