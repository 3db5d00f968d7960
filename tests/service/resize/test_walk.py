"""A walk over random plans: what may not be lost is not, what is lost is what was named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.networks import FMNetwork
from models.tables import Table
from service.data.lookups import lookups_per_id
from service.resize.report import report
from service.resize.resume import read_resize
from tests.service.resize.stored_runs import alone, plan_of, resize, run_of, same, store, vectors
from tests.service.warm_runs import ROWS, Sizes, make_data

STEPS = 6
WIDTHS = (1, 2, 4, 8)


def cut(rng: np.random.Generator, num_ids: int, least: int) -> list[tuple[int, int, int]]:
    """Blocks of random sizes and widths, some of whose ids share rows."""
    places = rng.choice(np.arange(1, num_ids), size=rng.integers(0, 3), replace=False)
    blocks = []
    for ids in np.diff([0, *np.sort(places), num_ids]).tolist():
        width = int(rng.choice([width for width in WIDTHS if width >= least]))
        hashed = int(ids // 2) if rng.random() < 0.2 and ids > 3 else 0
        blocks.append((ids - hashed, width, hashed))
    return blocks


def energy(moved: np.ndarray, counts: np.ndarray, table: Table) -> float:
    part = slice(table.first_id, table.first_id + table.num_ids)
    return float((counts[part, None] * np.square(moved[part])).sum())


@pytest.mark.parametrize("seed", range(2))
def test_every_step_of_a_walk_loses_what_it_names_and_nothing_else(seed, tmp_path: Path):
    rng = np.random.default_rng(seed)
    make_data(tmp_path / "data")
    network = FMNetwork(join="project")
    counts = {name: np.maximum(lookups_per_id(tmp_path / "data", name), 1e-9) for name in ROWS}
    here = run_of(tmp_path, "walk-0", sizes(rng, least=1), 8, network=network)
    alone(store, here)
    for step in range(1, STEPS):
        blocks = sizes(rng, least=int(rng.choice([1, 8])))
        there = run_of(tmp_path, f"walk-{step}", blocks, 8, network=network)
        there = replace(there, resume_from=here.output)
        found = report(read_resize(there))
        alone(resize, there)
        before, after = vectors(here), vectors(there)
        assert found.is_exact == same(before, after)
        kept = {line.table: line.kept_ratio for line in found.tables}
        for table in plan_of(there).tables():
            name = table.field
            if kept[table.name] is not None:
                lost = energy(after[name] - before[name], counts[name], table)
                whole = energy(before[name], counts[name], table)
                assert kept[table.name] == pytest.approx(1 - lost / whole, abs=1e-5)
        here = there


def sizes(rng: np.random.Generator, *, least: int) -> Sizes:
    """A plan of all fields; with a least width of 8 none of them shares rows."""
    plan = {name: cut(rng, num_ids, least) for name, num_ids in ROWS.items()}
    plan["C4"] = [(50, 8, 0)]  # as wide as the vectors
    if least == 8:
        plan = {name: [(n + h, d, 0) for n, d, h in blocks] for name, blocks in plan.items()}
    return plan
