"""Go on from another run's checkpoint: rewritten for this run's tables, in this run's folder."""

import logging
from dataclasses import asdict, replace

from service.checkpoint import Checkpoints, last_checkpoint
from service.config import TrainConfig
from service.data.dataset import read_dataset_info
from service.distributed import Ranks
from service.resize.entries import entries
from service.resize.plan import Resize, plan_resize
from service.resize.report import report
from service.resize.writer import PiecewisePlanner
from service.run_folder import RESIZE_FILE, RunFolder
from service.sizing import read_sizing

logger = logging.getLogger(__name__)


def read_resize(config: TrainConfig) -> Resize:
    """What the run ``config.resume_from`` becomes under this configuration.

    Raises:
        FileNotFoundError: If there is no such run, or it has no checkpoint.
        ValueError: If run, dataset and sizing plan do not fit each other.
    """
    assert config.resume_from is not None
    if config.resume_from.resolve() == config.output.resolve():
        raise ValueError(
            f"resume_from={config.resume_from} is the run folder that is to be written; give "
            f"another --output, or --resume to go on with the same tables"
        )
    info = read_dataset_info(config.data)
    sizing = replace(read_sizing(config.sizing), join=config.network.join)
    sizing.check_against(info)
    return plan_resize(config, info, sizing.plan)


def resumed_from(config: TrainConfig, ranks: Ranks) -> TrainConfig:
    """Write the first checkpoint of a run that goes on from another's; the configuration then.

    A run that has a checkpoint of its own goes on from that.

    Args:
        config: The run.
        ranks: The ranks, of which each writes a share.

    Raises:
        FileNotFoundError: If there is no run to go on from, or it has no checkpoint.
        ValueError: If run, dataset and sizing plan do not fit each other.
    """
    if config.resume_from is None:
        return config
    folder = RunFolder(config.output)
    config = ranks.from_first(lambda: folder.check(config))
    if config.resume and ranks.from_first(lambda: last_checkpoint(folder.checkpoints)):
        return config
    resize = ranks.from_first(lambda: read_resize(config))
    ranks.from_first(lambda: _claim(folder, config, resize.progress.step))
    planner = PiecewisePlanner(list(entries(resize)), rank=ranks.rank, world_size=ranks.world_size)
    path = Checkpoints(folder.checkpoints, ranks).write(planner, resize.progress)
    if ranks.is_first:
        folder.write_json(RESIZE_FILE, asdict(report(resize)))
        logger.info("goes on from %s as %s", resize.old.checkpoint, path)
    return replace(config, resume=True, overwrite=False)


def _claim(folder: RunFolder, config: TrainConfig, step: int) -> None:
    """Make the folder this job's: were it started again, it would find its own run."""
    folder.make_ready(config, last_step=step, last_validated=step)
    folder.write_run(config, {})
