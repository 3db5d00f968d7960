"""The splits of a run's dataset as its tables read them."""

from dataclasses import replace

from models.layout import Layout
from service.checkpoint import Progress
from service.config import TrainConfig
from service.data.dataset import DatasetInfo, Split
from service.data.loader import Loader
from service.distributed import Ranks


def shared_among(world_size: int, config: TrainConfig) -> TrainConfig:
    """The same training with each rank's share of its global batch, where it has one.

    Raises:
        ValueError: If ranks cannot share it evenly.
    """
    examples = config.global_batch_size
    if not examples:
        return config
    if examples % world_size:
        fitting = -(-examples // world_size) * world_size
        raise ValueError(
            f"global_batch_size={examples:,} on {world_size} ranks, expected a multiple of them; "
            f"try {fitting}"
        )
    return replace(config, batch_size=examples // world_size)


class RunData:
    """Makes the loaders of one run on one rank.

    Args:
        config: The run.
        info: Its dataset.
        layout: The tables that ids are looked up in.
        ranks: The ranks that share every batch.

    Attributes:
        train: The training split in the order of the run.
    """

    def __init__(
        self, config: TrainConfig, info: DatasetInfo, layout: Layout, ranks: Ranks
    ) -> None:
        self._config, self._info, self._layout, self._ranks = config, info, layout, ranks
        self.train = self.loader("train", is_shuffled=config.shuffle)

    def planned_steps(self, progress: Progress) -> int:
        """Steps of the whole run if nothing ends it early, counted from where it stands.

        Epochs that are done may have had another number of steps: on the dataset before this one.
        """
        epochs_left = max(self._config.epochs - progress.epoch, 0)
        steps = progress.step + max(epochs_left * len(self.train) - progress.batch, 0)
        return min(steps, self._config.max_steps or steps)

    def has_rows(self, split: Split) -> bool:
        """Whether a split is there and not empty."""
        return self._info.has_rows(split)

    def loader(self, split: Split, *, is_shuffled: bool = False) -> Loader:
        """Read a split, in the order of the run's seed or in that of its parts."""
        config, ranks = self._config, self._ranks
        is_penalised = split == "train" and config.is_regularised
        return Loader(
            config.data,
            self._info,
            split,
            self._layout,
            batch_size=config.batch_size,
            rank=ranks.rank,
            world_size=ranks.world_size,
            seed=config.seed if is_shuffled else None,
            pin_memory=ranks.device.type == "cuda",
            l2_power=config.l2_power if is_penalised else 0.0,
        )
