"""Every run that a comparison asks for, sized where that takes no training."""

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from models.sizing import Serving, parse_budget, uniform_bytes
from models.tables import PlanError
from service.compare.choices import REFERENCE, SizingChoice, recipe_of, references, sizing_of
from service.compare.digest import digest_of
from service.compare.spec import METRICS, CompareSpec, Rounded
from service.config import TrainConfig
from service.data.dataset import DATASET_FILE, DatasetInfo, read_dataset_info
from service.run_folder import file_sha256
from service.search.config import SearchConfig
from service.search.methods import SERVED
from service.sizing import SizingFile, read_sizing, write_sizing
from service.sizing_request import SizingRequest, chosen_fields, size_dataset
from service.train.slices import check_slice

SIZINGS = "sizings"
RUNS = "runs"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training of a comparison."""

    recipe: str
    sizing: str
    budget: str
    """As it was asked for; empty where the scheme's own widths are taken."""
    config: TrainConfig
    """With its seed and folders."""
    plan: SizingFile | None
    """None where a warm-up has to run first."""
    request: SizingRequest | None
    """What the plan is made from then."""
    search: SearchConfig | None = None
    """How the plan is found, where that takes trainings of its own."""
    digest: str
    """Hash of everything that decides the result; runs of the same hash are trained once."""
    needs: tuple[str, ...] = ()
    """Hashes of the warm-ups that come first."""
    dtypes: tuple[Rounded, ...] = ()
    """What its tables are rounded to besides, and scored again."""

    @property
    def is_warm_up(self) -> bool:
        """Whether other runs start from it, and it is no point of the frontier."""
        return self.sizing.startswith(REFERENCE)

    @property
    def name(self) -> str:
        """What a person calls it."""
        seed = f"seed {self.config.seed}"
        return " ".join(filter(None, (self.recipe, self.sizing, self.budget, seed)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """What a comparison asks for."""

    runs: tuple[Run, ...]
    warm_ups: Mapping[str, Run] = field(default_factory=dict)
    """By hash."""
    infeasible: Mapping[str, str] = field(default_factory=dict)
    """Why there is no plan, by recipe, sizing and budget."""


def expand(spec: CompareSpec) -> Grid:
    """Size what a comparison asks for, and list its runs.

    Raises:
        FileNotFoundError: If there is no dataset.
        ValueError: If a sizing, a slice or the metric does not fit the dataset, or a search needs
            validation examples that it does not have.
        PlanError: If no run at all can be planned.
    """
    info = read_dataset_info(spec.data)
    if spec.metric not in (allowed := ("auto", *METRICS[info.task])):
        raise ValueError(
            f"metric={spec.metric!r} is no score of a {info.task} task like that of {spec.data}; "
            f"expected one of {', '.join(allowed)}"
        )
    for name in spec.slices:
        check_slice(info, name)
    maker = _RunMaker(spec, info)
    runs = tuple(maker.runs())
    if not runs:
        place, why = next(iter(maker.infeasible.items()))
        raise PlanError(f"no run can be planned; {place}: {why}", needed_bytes=0)
    return Grid(runs=runs, warm_ups=maker.warm_ups, infeasible=maker.infeasible)


class _RunMaker:
    def __init__(self, spec: CompareSpec, info: DatasetInfo) -> None:
        self._spec, self._info = spec, info
        self._dataset = file_sha256(spec.data / DATASET_FILE)
        self._plans: dict[str, SizingFile | PlanError] = {}
        self.warm_ups: dict[str, Run] = {}
        self.infeasible: dict[str, str] = {}

    def runs(self) -> Iterator[Run]:
        """Whole seeds of all plans after each other, so that a stopped comparison has some."""
        for seed in dict.fromkeys(self._spec.seeds):
            for recipe in self._spec.recipes:
                for sizing in self._spec.sizings:
                    yield from self._of_sizing(recipe, sizing, seed)

    def _of_sizing(self, recipe: str, sizing: str, seed: int) -> Iterator[Run]:
        names = dict.fromkeys(references(self._spec.sizings[sizing]))
        first = {name: self._warm_up(recipe, name, seed) for name in names}
        choice = sizing_of(self._spec, sizing, {n: run.config.output for n, run in first.items()})
        for budget in choice.budgets:
            run = self._run(recipe, sizing, budget, seed, choice=choice, first=first)
            if isinstance(run, Run):
                yield replace(run, dtypes=self._spec.dtypes_of(budget))
            else:
                self.infeasible[" ".join(filter(None, (recipe, sizing, budget)))] = str(run)

    def _warm_up(self, recipe: str, name: str, seed: int) -> Run:
        choice = sizing_of(self._spec, name, {}, "warm_ups")
        run = self._run(
            recipe, f"{REFERENCE}{name}", choice.budgets[0], seed, choice=choice, first={}
        )
        if isinstance(run, PlanError):
            place = f"warm-up {recipe} {REFERENCE}{name}"
            raise PlanError(f"{place}: {run}", needed_bytes=run.needed_bytes)
        self.warm_ups[run.digest] = run
        return run

    def _run(
        self,
        recipe: str,
        sizing: str,
        budget: str,
        seed: int,
        *,
        choice: SizingChoice,
        first: Mapping[str, Run],
    ) -> Run | PlanError:
        spec = self._spec
        config = replace(recipe_of(spec, recipe, choice.train), data=spec.data, seed=seed)
        request = _request(choice, config, budget, self._info)
        search = _search(choice, config, request, self._info)
        plan = None if search or choice.is_measured else self._plan(choice, request)
        if isinstance(plan, PlanError):
            return plan
        slices = () if sizing.startswith(REFERENCE) else spec.slices
        folders = {run.config.output: run.digest for run in first.values()}
        deciding = search or plan or request
        digest = digest_of(self._dataset, deciding, config, slices, folders)
        file = _file_name(sizing, budget, str(seed) if plan is None else "")
        config = replace(
            config,
            output=spec.output / RUNS / digest,
            resume=True,  # where a stopped comparison has left it; else from the start
            keep_checkpoints=1,
            checkpoint_every=0,
        )
        return Run(
            recipe=recipe,
            sizing=sizing,
            budget=budget,
            config=replace(config, sizing=spec.output / SIZINGS / recipe / file),
            plan=plan,
            request=request if plan is None else None,
            search=replace(search, train=config) if search else None,
            digest=digest,
            needs=tuple(run.digest for run in first.values()),
        )

    def _plan(self, choice: SizingChoice, request: SizingRequest) -> SizingFile | PlanError:
        """The plan of a choice, made once for all seeds."""
        key = repr((choice.file, request))
        if key not in self._plans:
            try:
                self._plans[key] = (
                    size_dataset(self._spec.data, request)
                    if choice.file is None
                    else read_sizing(choice.file)
                )
            except PlanError as error:
                self._plans[key] = error
        plan = self._plans[key]
        if isinstance(plan, SizingFile):
            plan.check_against(self._info)
        return plan


def _file_name(sizing: str, budget: str, seed: str = "") -> str:
    """Name of a plan's file; sizings that read alike, and warm-ups, have files of their own."""
    words = " ".join(filter(None, (sizing, budget, seed)))
    identity = zlib.crc32(repr((sizing, budget)).encode())
    return f"{re.sub('[^A-Za-z0-9.]+', '-', words).strip('-')}-{identity:08x}.json"


def write_plans(grid: Grid) -> None:
    """Write the sizing files that are known where the runs look for them."""
    runs = (*grid.runs, *grid.warm_ups.values())
    for path, plan in {run.config.sizing: run.plan for run in runs}.items():
        if plan is not None:
            write_sizing(plan, path)


def _search(
    choice: SizingChoice, config: TrainConfig, request: SizingRequest, info: DatasetInfo
) -> SearchConfig | None:
    """What is asked of the search of a choice, if it is one.

    Raises:
        ValueError: If it needs validation examples and the dataset has none.
    """
    if choice.method is None:
        return None
    search = SearchConfig(
        train=config,
        method=choice.method,
        budget=request.budget,
        dim=request.base_dim,
        fields=request.fields,
    )
    search.check_validation(info)
    return search


def _request(
    choice: SizingChoice, config: TrainConfig, budget: str, info: DatasetInfo
) -> SizingRequest:
    """What is asked for: what the sizing leaves open follows the recipe."""
    follows: dict[str, Any] = {"optimizer": config.optimizer.sparse, "join": config.network.join}
    known = {f.name for f in fields(SizingRequest)}
    open_keys = (follows.keys() & known) - choice.given
    request = replace(choice.request, **{key: follows[key] for key in open_keys})
    if choice.method is not None and choice.method.kind in SERVED:
        request = replace(request, budget_for="serving")
    return replace(request, budget=budget_of(budget, info, request))


def budget_of(text: str, info: DatasetInfo, request: SizingRequest) -> str | None:
    """A budget in the words of a request; ``uniform:4`` becomes the bytes of uniform width 4.

    Raises:
        ValueError: If it is no budget, or a field is none of the dataset's.
    """
    sized = chosen_fields(info.field_stats, request.fields, "fields")
    match = re.fullmatch(r"uniform:([1-9]\d*)", text.strip())
    if not match:
        if text:
            parse_budget(text, 1)  # raises where it is none, before a search trains for it
        return text or None
    served = Serving() if request.budget_for == "serving" else None
    return str(uniform_bytes(sized, int(match[1]), request.optimizer, served))
