"""FuxiCTR with its own loader and ``fit``; its DeepFM is composed from its blocks.

The wheel holds no models: the repository's model zoo builds them from these blocks, with these
arguments. Its loader reads NPZ files, as its preprocessing leaves them; making them is not timed.
Numeric columns are standardised as its preprocessing can.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from numpy.typing import NDArray

from service.bench.peers.task import Clock, Predict, RaceTask, Split, TimeIsUp, take_part


class DeepFM(BaseModel):  # type: ignore[misc]  # not installed where types are checked
    """A factorization machine and a deep network on one embedding a field."""

    def __init__(self, features: Any, task: RaceTask) -> None:
        super().__init__(features, "DeepFM", verbose=0, model_root=".", metrics=["AUC"])
        self.embedding_layer = FeatureEmbedding(features, task.dim)
        self.fm = FactorizationMachine(features)
        self.mlp = MLP_Block(
            input_dim=features.sum_emb_out_dim(),
            output_dim=1,
            hidden_units=[400, 400, 400],
            hidden_activations="ReLU",
            output_activation=None,
        )
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Score a batch."""
        fields = self.get_inputs(inputs)
        vectors = self.embedding_layer(fields)
        scores = self.fm(fields, vectors) + self.mlp(vectors.flatten(1))
        return {"y_pred": self.output_activation(scores)}

    def eval_step(self) -> None:
        """Keep the weights of the epoch's end without validating, which is not raced."""
        self.save_weights(self.checkpoint)


def train(task: RaceTask, clock: Clock) -> Predict:
    """One ``fit``."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    _write(task, "train")
    clock.restart()
    features = _feature_map(task)
    model = DeepFM(features, task)
    Path(model.model_dir).mkdir(exist_ok=True)
    model.optimizer.register_step_post_hook(clock.step)
    batches, _ = RankDataLoader(features, "train", "train.npz", batch_size=task.batch_size)
    with suppress(TimeIsUp):
        model.fit(batches, epochs=1)

    def predict() -> NDArray[Any]:
        _write(task, "test")
        test = RankDataLoader(features, "test", test_data="test.npz", batch_size=task.batch_size)
        found: NDArray[Any] = model.predict(test)
        return found

    return predict


def _write(task: RaceTask, split: Split) -> None:
    rows = task.read(split)
    train = rows if split == "train" else task.read("train")
    scaled = {
        name: (column - train.dense[name].mean()) / train.dense[name].std()
        for name, column in rows.dense.items()
    }
    np.savez(f"{split}.npz", label=rows.labels, **rows.ids, **scaled)  # type: ignore[arg-type]


def _feature_map(task: RaceTask) -> Any:
    features = FeatureMap("race", ".")
    for name in task.dense_names:
        features.features[name] = {"source": "", "type": "numeric"}
    for name, rows in task.num_embeddings.items():
        features.features[name] = {"source": "", "type": "categorical", "vocab_size": rows}
    features.labels = ["label"]
    features.default_emb_dim = task.dim
    features.num_fields = features.get_num_fields()
    features.set_column_index()
    return features


if __name__ == "__main__":
    take_part(train, ("fuxictr", "torch", "numpy"))
