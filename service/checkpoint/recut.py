"""Row-wise Adagrad's state for a table whose columns are now cut elsewhere.

It keeps a number a row and column shard: the sum, over steps, of the mean squared gradient of the
row's columns in that shard. The means of two shards, weighted by their columns, are the mean of
both: putting columns together gives exactly what whole rows would have summed over these
gradients. The other way something is missing: each part of a shard takes the mean of the whole.
"""

# Shapes:  n rows, c stored column shards

from pathlib import Path

import torch

from service.checkpoint.optimizer_state import OptimizerView, column_cuts
from service.checkpoint.stored import StoredTensors


def recut_sums(view: OptimizerView, checkpoint: Path) -> set[str]:
    """Load the row-wise state of this rank's tables that were cut into other columns.

    Returns:
        Names of their weights.
    """
    stored = StoredTensors(checkpoint)
    recut = set()
    for key, summed in view.rowwise.items():
        weight, name = f"model.{key}", f"optimizer.state.{key}.sum"
        if weight not in stored.shapes or name not in stored.shapes:
            continue
        cuts = column_cuts(stored.chunks(weight))
        if cuts == summed.cuts or stored.shapes[name][1] != len(cuts):
            continue
        for rows, columns, part in summed.local():
            shares = torch.tensor([_overlap(cut, columns) for cut in cuts], dtype=torch.float32)
            means = torch.from_numpy(stored.read(name, rows))  # (n, c)
            part.copy_(means @ (shares / shares.sum()))
        recut.add(key)
    return recut


def _overlap(cut: tuple[int, int], columns: tuple[int, int]) -> int:
    return max(0, min(cut[1], columns[1]) - max(cut[0], columns[0]))
