"""The equality contract: however tables are sharded, they train as plain float64 ones do.

Every sharding type, optimizer and number of ranks, over tables of widths 1 to 16, in one block and
in three, packed and hashed, of single ids and of lists: predictions, weights after ten steps and
what the optimizer remembers, gathered whole, against loops over ids. ``-m slow`` runs the product
of all of them; `tests.service.train.equality_table` writes the table of ``docs/sharding.md``.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from service.distributed import launch
from service.sizing import read_sizing
from service.train.loop import train
from sharding.constraints import ShardingConfig
from tests.service.train.equality_cases import (
    DEFAULT,
    GPU,
    REST,
    Case,
    errors,
    expected,
    make_equality_run,
    trained_by_cases,
    variant,
)
from tests.service.train.equality_runs import load_all

TURNED = {"table_wise": "row_wise", "row_wise": "table_wise"}
COPIES = {"sgd": 1, "adagrad": 2, "adam": 3, "amsgrad": 4, "rowwise_adagrad": 1}
"""Numbers that are kept for a weight, itself included."""
FLOAT = 4


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return make_equality_run(tmp_path_factory.mktemp("equality"))


@pytest.fixture(scope="module", params=[1, 2, 4])
def trained(request, config):
    """Default cases of one number of ranks, all of them trained by one set of processes."""
    return trained_by_cases(config, [case for case in DEFAULT if case.nproc == request.param])


def check_equality(config, trained):
    for case, found in trained:
        off = errors(found, expected(config, case, found.before))
        if case.is_other_optimizer:
            assert off["weights"] > 1e-4, (case, off)
            continue
        assert max(off.values()) < 3e-6, (case, off)
        moved = [
            np.abs(found.after.tables[name] - rows).max()
            for name, rows in found.before.tables.items()
        ]
        assert min(moved) > 1e-3, (case, moved)


@pytest.mark.dist
def test_sharded_training_equals_float64_loops(config, trained):
    check_equality(config, trained)


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize("nproc", [1, 2, 4])
def test_the_whole_product_equals_float64_loops(config, nproc):
    check_equality(config, trained_by_cases(config, [c for c in REST if c.nproc == nproc]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", GPU, ids=str)
def test_gpu_kernels_train_as_float64_loops_do(config, case):
    ((_, found),) = trained_by_cases(config, [case])
    off = errors(found, expected(config, case, found.before))
    assert max(off.values()) < 2e-5, off


@pytest.mark.dist
def test_tables_are_cut_as_the_case_says(trained):
    for case, found in trained:
        # C8 has the rows and columns for every cut; most packed tables lack stored rows.
        assert found.kinds["C8"] == case.kind, case


@pytest.mark.dist
def test_slots_that_hold_no_row_stay_zero(trained):
    for case, found in trained:
        left_over = [values for values in found.after.padding.values() if values.size]
        assert len(left_over) == 7 and not any(values.any() for values in left_over), case


@pytest.mark.dist
def test_the_start_depends_on_no_sharding(trained):
    first, *others = (found.before for _, found in trained)
    for other in others:
        assert all(np.array_equal(other.tables[name], first.tables[name]) for name in first.tables)


@pytest.mark.dist
def test_allocated_bytes_are_those_of_the_stored_tables(config, trained):
    plan = read_sizing(config.sizing).plan
    for case, found in trained:
        for table in plan.tables() if not case.is_other_optimizer else ():
            width = max(4, table.embedding_dim)
            rows = -(-table.num_embeddings * table.embedding_dim // width)
            numbers = rows * width * COPIES[case.optimizer]
            numbers += rows if case.optimizer == "rowwise_adagrad" else 0
            copies = case.nproc if found.kinds[table.name] == "data_parallel" else 1
            assert found.held_bytes[table.name] == copies * FLOAT * numbers


@pytest.mark.dist
def test_a_checkpoint_of_packed_tables_loads_on_other_ranks_under_another_sharding(config, trained):
    # SGD has no state, which no checkpoint of one rank gives to two.
    saved = [one for one in trained if one[0].kind in TURNED and one[0].optimizer == "adagrad"]
    if not saved:
        pytest.skip("no case of these ranks is turned")
    configs = [
        replace(variant(config, case), sharding=ShardingConfig(types=(TURNED[case.kind],)))
        for case, _ in saved
    ]
    nproc = 2 if saved[0][0].nproc == 1 else 1
    loaded = launch(load_all, configs, nproc=nproc, name="loads")
    for state, (case, found) in zip(loaded, saved, strict=True):
        for name, rows in found.after.tables.items():
            assert np.array_equal(state.tables[name], rows), (case, name)


def test_a_packed_run_resumes_from_the_middle_to_the_same_scores(config):
    config = replace(
        variant(config, Case(kind="table_wise", optimizer="adagrad", pooling="mean", nproc=1)),
        output=config.output / "resumed",
        max_steps=9,
        checkpoint_every=6,
    )
    whole = launch(train, config, nproc=1, name="whole")
    (config.output / "checkpoints" / "step-00000009" / ".metadata").unlink()
    resumed = launch(train, replace(config, resume=True), nproc=1, name="again")
    assert (resumed.steps, resumed.scores) == (9, whole.scores)
