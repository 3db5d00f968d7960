"""A plain PyTorch loop over tensors in memory: one stacked table, or a bag a field."""

# Shapes:  n examples, B batch, F fields, D width

from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Optimizer

from service.bench.peers.task import Clock, Predict, RaceTask, Rows, TimeIsUp, take_part
from service.bench.plain import network_of


class Stacked(nn.Module):
    """All fields in one ``nn.Embedding``, ids shifted by field."""

    first_rows: Tensor

    def __init__(self, task: RaceTask, *, sparse: bool) -> None:
        super().__init__()
        rows = list(task.num_embeddings.values())
        self.table = nn.Embedding(sum(rows), task.dim, sparse=sparse)
        bounds = torch.tensor(rows).float().rsqrt().repeat_interleave(torch.tensor(rows))
        nn.init.uniform_(self.table.weight, -1, 1).data.mul_(bounds.unsqueeze(1))
        self.register_buffer("first_rows", torch.tensor([0, *rows]).cumsum(0)[:-1])

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ``(B, F)`` ids as ``(B, F * D)``."""
        fields: Tensor = self.table(ids + self.first_rows)
        return fields.flatten(1)


class Bags(nn.Module):
    """One ``nn.EmbeddingBag`` a field, sparse gradients."""

    def __init__(self, task: RaceTask) -> None:
        super().__init__()
        self.bags = nn.ModuleList(
            nn.EmbeddingBag(rows, task.dim, mode="sum", sparse=True)
            for rows in task.num_embeddings.values()
        )
        for weight in self.bags.parameters():
            nn.init.uniform_(weight, -(len(weight) ** -0.5), len(weight) ** -0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ``(B, F)`` ids as ``(B, F * D)``."""
        columns = ids.unsqueeze(2).unbind(1)  # F times (B, 1)
        return torch.cat([bag(c) for bag, c in zip(self.bags, columns, strict=True)], dim=1)


def train(task: RaceTask, clock: Clock) -> Predict:
    """Shuffle once, slice batches, Adam."""
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    labels, dense, ids = tensors(task.read("train"))
    tables = Bags(task) if task.variant == "bags" else Stacked(task, sparse=False)
    network = network_of(task.network, ids.shape[1], task.dim, dense.shape[1])
    optimizers = _optimizers(tables, network, sparse=task.variant == "bags")

    def score(dense: Tensor, ids: Tensor) -> Tensor:
        logits: Tensor = network(dense, tables(ids))
        return logits

    with suppress(TimeIsUp):
        for rows in torch.split(torch.randperm(len(labels)), task.batch_size):
            loss = binary_cross_entropy_with_logits(score(dense[rows], ids[rows]), labels[rows])
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
            clock.step()

    @torch.no_grad()
    def predict() -> Iterator[Tensor]:
        _, dense, ids = tensors(task.read("test"))
        for batch in zip(*(torch.split(t, task.batch_size) for t in (dense, ids)), strict=True):
            yield torch.sigmoid(score(*batch))

    return lambda: torch.cat(list(predict())).numpy()


def tensors(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Labels ``(n,)``, dense columns ``(n, I)``, ids ``(n, F)``."""
    labels = torch.tensor(rows.labels)
    dense = torch.stack([torch.tensor(column) for column in rows.dense.values()], dim=1)
    ids = torch.stack([torch.tensor(column) for column in rows.ids.values()], dim=1)
    return labels, dense, ids.long()


def _optimizers(tables: nn.Module, network: nn.Module, *, sparse: bool) -> list[Optimizer]:
    if not sparse:
        weights = [*tables.parameters(), *network.parameters()]
        return [torch.optim.Adam(weights, lr=1e-3, fused=True)]
    return [
        torch.optim.SparseAdam(list(tables.parameters()), lr=1e-3),
        torch.optim.Adam(network.parameters(), lr=1e-3, fused=True),
    ]


if __name__ == "__main__":
    take_part(train, ("torch", "numpy"))
