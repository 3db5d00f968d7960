"""Every network, traced and saved, says what it says in training; for any number of rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from models.embeddings.choice import Surroundings
from models.embeddings.choices import MixedChoice
from models.networks import NETWORKS, PAIRWISE
from models.tables import Block, SizingPlan
from service.data.batch import Batch, FeatureBuilder
from service.data.examples import Columns
from service.export.onnx import write_onnx
from service.export.program import PooledFields, ServedModel, to_program
from service.export.tables import folded
from service.serving.lookup import Lookup
from service.serving.stored_rows import StoredRows
from service.train.task import TrainTask

BLOCKS = {
    "a": [(9, 8)],
    "b": [(4, 4), (12, 2)],
    "c": [(6, 8), (5, 4)],
    "d": [(11, 1)],
}
"""Wide, narrow in blocks, of mixed widths, packed."""
NUM_DENSE = 3


def a_task(kind: str) -> tuple[TrainTask, SizingPlan]:
    """A network with weights of its own, in evaluation."""
    names = ("b", "c") if kind in PAIRWISE else tuple(BLOCKS)
    fields = {
        name: tuple(Block(num_embeddings=n, embedding_dim=d, asked_dim=d) for n, d in BLOCKS[name])
        for name in names
    }
    network = NETWORKS[kind]()
    plan = SizingPlan(fields=fields, out_dim=8, join=network.join)
    torch.manual_seed(0)
    built = network.build(MixedChoice().build(Surroundings(plan=plan)), NUM_DENSE)
    for weight in built.embeddings.parameters():
        nn.init.normal_(weight, std=0.3)
    return TrainTask(built, "click", label_mean=0.3).eval(), plan


def examples(plan: SizingPlan, num_rows: int) -> Columns:
    rng = np.random.default_rng(num_rows)
    sizes = [sum(block.num_ids for block in blocks) for blocks in plan.fields.values()]
    ids = [rng.integers(0, size, num_rows).astype(np.int32) for size in sizes]
    return Columns(
        labels=np.zeros(num_rows, np.float32),
        dense=rng.random((num_rows, NUM_DENSE)).astype(np.float32),
        ids=np.stack(ids),
        lists=(),
    )


def in_training(task: TrainTask, plan: SizingPlan, columns: Columns) -> torch.Tensor:
    batch = Batch(
        dense=torch.from_numpy(columns.dense),
        features=FeatureBuilder(plan)(columns),
        labels=torch.from_numpy(columns.labels),
        weights=torch.ones(len(columns)),
    )
    with torch.no_grad():
        return task(batch)[1][1]


class InMemory(Lookup):
    """Looks rows up that no file holds."""

    def __init__(self, plan, tables, rows):
        self._tables, self._rows, self._means = tables, rows, set()
        self._width = sum(table.embedding_dim for table in tables)
        self._single, self._lists = list(plan.fields), []


def narrow_projections(task: TrainTask) -> dict[str, torch.Tensor]:
    unify = task.network.embeddings.unify
    return {
        name: stack[place].detach().clone()
        for (_, names), stack in zip(unify.narrow_tables, unify.projections, strict=False)
        for place, name in enumerate(names)
    }


@pytest.mark.parametrize(("kind", "folds"), [*((kind, False) for kind in NETWORKS), ("fm", True)])
def test_a_traced_network_says_what_it_says_in_training(kind, folds, tmp_path):
    task, plan = a_task(kind)
    projections = narrow_projections(task)
    expected = {rows: in_training(task, plan, examples(plan, rows)) for rows in (1, 2, 50)}
    stored, tables = {}, []
    for table in plan.tables():
        weight = task.network.embeddings.tables.embedding_bags[table.name].weight.detach()
        logical = weight.reshape(-1, table.embedding_dim)[: table.num_embeddings]
        as_served = folded(table, projections if folds else {})
        rows = logical @ projections[table.name] if as_served != table else weight
        tables.append(replace(as_served, first_id=table.first_id))
        stored[table.name] = StoredRows(as_served, rows, "fp32")
    fields = PooledFields(tables, task.network.embeddings, {} if folds else projections)
    lookup = InMemory(plan, tables, stored)
    program = to_program(ServedModel(task, fields), num_dense=NUM_DENSE, width=lookup._width)
    torch.export.save(program, tmp_path / "program.pt2")
    served = torch.export.load(tmp_path / "program.pt2").module()
    for rows, said in expected.items():
        columns = examples(plan, rows)
        found = served(torch.from_numpy(columns.dense), lookup(columns))
        torch.testing.assert_close(found, said, rtol=1e-5, atol=1e-5)
        assert rows < 50 or found.std() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_has_its_operators_in_onnx(kind, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    task, plan = a_task(kind)
    tables = list(plan.tables())
    fields = PooledFields(tables, task.network.embeddings, narrow_projections(task))
    model, width = ServedModel(task, fields), sum(table.embedding_dim for table in tables)
    program = to_program(model, num_dense=NUM_DENSE, width=width)
    write_onnx(program, tmp_path)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    for rows in (1, 7):
        dense, pooled = torch.rand(rows, NUM_DENSE), torch.randn(rows, width)
        given = {"dense": dense.numpy(), "pooled": pooled.numpy()}
        named = {each.name for each in session.get_inputs()}  # what is not read is left out
        (found,) = session.run(None, {name: given[name] for name in named})
        with torch.no_grad():
            np.testing.assert_allclose(found, model(dense, pooled), rtol=1e-4, atol=1e-5)
