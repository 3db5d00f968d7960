"""What every dimension of a finished run's fields is to its loss; see `models.search.sseds`."""

from pathlib import Path

import numpy as np
import torch

from models.search.sseds import mask_gradient
from service.data.dataset import Split, read_dataset_info
from service.probe import Probe, look_up, sample
from service.warm_up import WarmUp


def mask_gradients(
    warm_up: WarmUp, data: Path, split: Split, num_examples: int
) -> tuple[dict[str, list[float]], int]:
    """Gradient of the mean loss with respect to every field's mask, and how many examples it took.

    Args:
        warm_up: The run; dropout and batch statistics are those of evaluation.
        data: The dataset it was trained on.
        split: Whose examples.
        num_examples: How many, at most.

    Raises:
        ValueError: If run and dataset do not fit each other, or the split is empty.
    """
    info = read_dataset_info(data)
    for stats in info.field_stats:
        if stats.name in warm_up.plan.fields:
            warm_up.check_field(stats)
    batches = list(sample(data, info, split, warm_up.plan, num_examples))
    looked = look_up(warm_up, batches)
    probe = Probe(warm_up, info, looked)
    total = {name: np.zeros(probe.width(name)) for name in looked}
    seen = sum(len(batch.labels) for batch in batches)
    for batch in batches:
        fields = probe.fields(batch)
        scores = probe.scores(batch, fields).double()
        loss = probe.losses(scores[:, None], batch.labels.double()).sum()
        (gradients,) = torch.autograd.grad(loss, fields)
        for name in total:
            vectors = probe.of(fields.detach().double().numpy(), name)
            gradient = probe.of(gradients.double().numpy(), name)
            total[name] += mask_gradient(vectors, gradient) / seen
    return {name: gradient.tolist() for name, gradient in total.items()}, seen
