"""How good a super-net of prefixes is on held-out examples with any choice of widths."""

# Shapes:  B batch, F fields, D width of each

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from service.data.dataset import Split, read_dataset_info
from service.probe import Probe, look_up, sample
from service.train.evaluation import score
from service.warm_up import WarmUp


class PrefixQuality:
    """Scores a finished run whose fields show the first columns of their vectors alone.

    The examples' vectors are looked up once and held in memory.

    Args:
        warm_up: The run; dropout and batch statistics are those of evaluation.
        data: The dataset it was trained on.
        split: Whose examples.
        num_examples: How many, at most.

    Attributes:
        num_examples: How many there are.

    Raises:
        ValueError: If run and dataset do not fit each other, or the split is empty.
    """

    def __init__(self, warm_up: WarmUp, data: Path, split: Split, num_examples: int) -> None:
        info = read_dataset_info(data)
        for stats in info.field_stats:
            if stats.name in warm_up.plan.fields:
                warm_up.check_field(stats)
        batches = list(sample(data, info, split, warm_up.plan, num_examples))
        self._probe = Probe(warm_up, info, look_up(warm_up, batches))
        self._task = info.task
        self._batches = [(batch, self._probe.fields(batch).detach()) for batch in batches]
        self._labels = torch.cat([batch.labels for batch in batches]).numpy()
        self.num_examples = len(self._labels)

    @torch.no_grad()
    def __call__(self, widths: Mapping[str, int]) -> float:
        """AUC of clicks, or minus the squared error of ratings.

        Args:
            widths: Columns of every field that are shown.
        """
        mask = self._shown(widths)
        predicted = [
            self._probe.predictions(self._probe.scores(batch, fields * mask))
            for batch, fields in self._batches
        ]
        _, quality = score(torch.cat(predicted).numpy(), self._labels, self._task).headline
        return quality

    def _shown(self, widths: Mapping[str, int]) -> Tensor:
        """1 for columns that are shown, ``(F * D,)``."""
        probe = self._probe
        return torch.cat(
            [(torch.arange(probe.width(name)) < widths[name]).float() for name in probe.looked]
        )
