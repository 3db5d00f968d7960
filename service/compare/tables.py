"""The frontier as files: JSON and CSV for programs, Markdown for people."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from service.compare.costs import UNITS, Cost
from service.compare.frontier import LOWER_IS_BETTER, Point, num_bytes
from service.compare.spec import CompareSpec, Metric
from service.compare.statistics import Summary
from service.run_folder import without_nan

Line = Sequence[str]
COST_COLUMNS: Final = (
    *("search_examples", "search_seconds", "training_examples", "training_seconds"),
    *("search_by_base_examples", "search_by_base_seconds", "peak_memory_by_base"),
)
BESIDE: Final[Metric] = "log_loss"
"""Score of clicks that stands beside the one that is drawn."""
LARGER: Final = 1.05
"""Times the baseline's bytes from which a plan is said to be larger."""
OWN: Final = "own"
"""Budget of plans that have the widths their scheme asks for."""
SEARCH_TITLES: Final = (
    *("search: examples", "x base", "search: s", "x base", "search + training: s", "peak memory"),
)


def as_json(points: Sequence[Point]) -> str:
    """Everything that is known of every point."""
    content = [asdict(point) | {"verdict": point.verdict} for point in points]
    return json.dumps(without_nan(content), indent=1) + "\n"


def as_csv(points: Sequence[Point]) -> str:
    """One line a point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = list(points[0].figures) if points else []
    writer.writerow(
        [
            *(
                "recipe",
                "sizing",
                "budget",
                "dtype",
                *figures,
                "metric",
                "mean",
                "sd",
                "low",
                "high",
                "n",
                BESIDE,
            ),
            *("difference", "difference_low", "difference_high", "difference_n", "seconds"),
            *("warm_up_seconds", *COST_COLUMNS),
        ]
    )
    for point in points:
        score, delta = point.score, point.difference
        compared = [*_numbers(delta.mean, delta.low, delta.high), delta.n] if delta else [""] * 4
        writer.writerow(
            [
                *(point.recipe, point.sizing, point.budget, point.dtype),
                *(*point.figures.values(), point.metric),
                *(*_numbers(score.mean, score.sd, score.low, score.high), score.n, _beside(point)),
                *(*compared, f"{point.seconds:.2f}", f"{point.warm_up_seconds:.2f}"),
                *_cost_cells(point.cost),
            ]
        )
    return text.getvalue()


def _cost_cells(cost: Cost) -> list[str]:
    """Values of `COST_COLUMNS`."""
    ratios = (*cost.search_ratio.values(), cost.memory_ratio)
    figures = (*cost.search.values(), *cost.training.values())
    return _numbers(*figures, *(math.nan if ratio is None else ratio for ratio in ratios))


def _numbers(*values: float) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in values]


def as_markdown(
    spec: CompareSpec, points: Sequence[Point], missing: Mapping[str, Mapping[str, str]]
) -> str:
    """One table a recipe, the slices below it, and by title what is missing and why."""
    parts = []
    for recipe in dict.fromkeys(point.recipe for point in points):
        of_recipe = [point for point in points if point.recipe == recipe]
        parts += [f"## {recipe}", _points_table(spec, of_recipe)]
        if longer := _trained_longer(spec, of_recipe):
            parts.append(
                f"Trained longer than {spec.baseline}, by a warm-up: {', '.join(longer)}. "
                f"A part of their difference may be due to that."
            )
        if larger := _larger(spec, of_recipe):
            parts.append(
                f"Larger than {spec.baseline} at the same budget, which leaves some of it, or they "
                f"are bounded by other bytes: {', '.join(larger)}. A part of their difference may "
                f"be due to that."
            )
        sliced = [point for point in of_recipe if not point.dtype]
        for field in dict.fromkeys(field for point in sliced for field in point.slices):
            parts += [f"### {recipe}, by frequency of {field}", _slices_table(sliced, field)]
    for title, reasons in missing.items():
        if reasons:
            lines = "\n".join(f"* {place}: {why}" for place, why in reasons.items())
            parts += [f"## {title}", lines]
    return "\n\n".join(parts) + "\n"


def _points_table(spec: CompareSpec, points: Sequence[Point]) -> str:
    metric = points[0].metric
    better = "lower" if metric in LOWER_IS_BETTER else "higher"
    title = f"{points[0].split} {metric} ± sd ({better} is better)"
    versus = f"minus {spec.baseline}, paired [95 %]"
    head = ["sizing", "budget", "widths", "EP", "EP + proj.", "training bytes", "serving bytes"]
    beside = [BESIDE.replace("_", " ")] if any(map(_beside, points)) else []
    is_searched = any(point.cost.is_searched for point in points)
    times = SEARCH_TITLES if is_searched else ("s a run",)
    lines = [[*head, title, *beside, "seeds", versus, "", *times]]
    for point in points:
        figures = [f"{value:,.0f}" for value in point.figures.values()]
        lines.append(
            [
                *(point.name, point.budget or OWN, widths_text(point), *figures),
                *(_mean_and_sd(point.score), *([_beside(point)] if beside else [])),
                str(point.score.n),
                *(_interval(point.difference), point.verdict),
                *(_search_cells(point.cost) if is_searched else [_seconds(point)]),
            ]
        )
    return _markdown(lines, left=3)


def _trained_longer(spec: CompareSpec, points: Sequence[Point]) -> list[str]:
    """Sizings that come after a longer warm-up than the baseline that they are compared with."""
    before = {p.budget: p.warm_up_seconds for p in points if p.sizing == spec.baseline}
    compared = [point for point in points if point.difference is not None]
    longer = [
        point.sizing
        for point in compared
        if point.budget in before and point.warm_up_seconds > before[point.budget]
    ]
    return list(dict.fromkeys(longer))


def _larger(spec: CompareSpec, points: Sequence[Point]) -> list[str]:
    """Plans that are compared with a baseline of clearly fewer bytes, and how many times those."""
    whole = [point for point in points if not point.dtype]
    of_baseline = {p.budget: num_bytes(spec, p) for p in whole if p.sizing == spec.baseline}
    compared = [p for p in whole if p.difference is not None and p.budget in of_baseline]
    times = {f"{p.name} {p.budget}": num_bytes(spec, p) / of_baseline[p.budget] for p in compared}
    return [f"{name} ({ratio:.2f} times)" for name, ratio in times.items() if ratio > LARGER]


def _slices_table(points: Sequence[Point], field: str) -> str:
    metric = points[0].metric
    of_points = [point.slices.get(field, {}) for point in points]
    rows = {name: of["num_rows"] for slices in of_points for name, of in slices.items()}
    titles = [f"{metric} of {name} ({num.mean:,.0f} rows)" for name, num in rows.items()]
    lines = [["sizing", "budget", *titles]]
    for point, slices in zip(points, of_points, strict=True):
        scores = [_mean_and_sd(slices.get(name, {}).get(metric)) for name in rows]
        lines.append([point.sizing, point.budget or OWN, *scores])
    return _markdown(lines, left=2)


def widths_text(point: Point) -> str:
    """Widths in few words: one number where all are alike."""
    used = [width for of_field in point.widths.values() for width in of_field]
    if len(set(used)) == 1:
        return str(used[0])
    if len(used) <= 4:
        return " ".join(map(str, used))
    return f"{min(used)}-{max(used)}"


def _seconds(point: Point) -> str:
    """Time of a run, and of the warm-up that it needs."""
    own, before = f"{point.seconds:.1f}", point.warm_up_seconds
    return f"{before:.1f} + {own}" if before else own


def _search_cells(cost: Cost) -> list[str]:
    """Cells of `SEARCH_TITLES`."""
    ratio = {u: "" if (r := cost.search_ratio[u]) is None else f"{r:.2f}" for u in UNITS}
    memory = "" if cost.memory_ratio is None else f"{cost.memory_ratio:.2f} x"
    if not cost.is_searched and not any(cost.search.values()):
        return ["", "", "", "", f"{cost.total('seconds'):.1f}", memory]
    return [
        *(f"{cost.search['examples']:,.0f}", ratio["examples"]),
        *(f"{cost.search['seconds']:.1f}", ratio["seconds"]),
        *(f"{cost.total('seconds'):.1f}", memory),
    ]


def _mean_and_sd(score: Summary | None) -> str:
    if score is None or not score.n:
        return ""
    return f"{score.mean:.5f}" + (f" ± {score.sd:.5f}" if score.n > 1 else "")


def _beside(point: Point) -> str:
    """Mean of the score that stands beside the one that is drawn, where there is one."""
    score = point.scores.get(BESIDE)
    if point.metric == BESIDE or score is None or not score.n:
        return ""
    return f"{score.mean:.5f}"


def _interval(difference: Summary | None) -> str:
    if difference is None:
        return ""
    if difference.n < 2:
        return f"{difference.mean:+.5f}"
    return f"{difference.mean:+.5f} [{difference.low:+.5f}, {difference.high:+.5f}]"


def _markdown(lines: Sequence[Line], *, left: int) -> str:
    """A table whose first columns are text and whose others are numbers."""

    def rows() -> Iterator[str]:
        for number, line in enumerate(lines):
            cells = (" ".join(cell.split()).replace("|", "\\|") for cell in line)
            yield f"| {' | '.join(cells)} |"
            if number == 0:
                yield "|" + "".join("---|" if i < left else "---:|" for i in range(len(line)))

    return "\n".join(rows())
