"""DeepCTR-Torch as its quick start has it: a dict of columns, ``compile``, ``fit``."""

from contextlib import suppress

import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import DeepFM

from service.bench.peers.task import Clock, Predict, RaceTask, Rows, TimeIsUp, take_part


def train(task: RaceTask, clock: Clock) -> Predict:
    """One ``fit``."""
    torch.set_num_threads(task.threads)
    rows = task.read("train")
    columns = [
        *(SparseFeat(name, n, embedding_dim=task.dim) for name, n in task.num_embeddings.items()),
        *(DenseFeat(name, 1) for name in task.dense_names),
    ]
    model = DeepFM(columns, columns, dnn_hidden_units=(400, 400, 400), seed=task.seed)
    model.compile("adam", "binary_crossentropy")
    model.optim.register_step_post_hook(clock.step)
    with suppress(TimeIsUp):
        model.fit(inputs(rows), rows.labels, batch_size=task.batch_size, epochs=1, verbose=0)
    return lambda: model.predict(inputs(task.read("test")), task.batch_size)


def inputs(rows: Rows) -> dict[str, object]:
    """Columns by name."""
    return {**rows.ids, **rows.dense}


if __name__ == "__main__":
    take_part(train, ("deepctr-torch", "torch", "numpy"))
