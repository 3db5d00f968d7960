"""Writing a checkpoint: all ranks their files, then the first one the manifest and the name."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.planner import SavePlanner

from service.checkpoint.choice import PREFIX, REPLACED, UNFINISHED, finished, name_of
from service.checkpoint.manifest import Digest, digest, sync_folder, write_manifest
from service.checkpoint.progress import Progress, write_progress
from service.distributed import Ranks


def write_checkpoint(
    state: dict[str, Any],
    progress: Progress,
    final: Path,
    ranks: Ranks,
    *,
    copies: Sequence[Path],
    keep: int,
    planner: SavePlanner | None = None,
) -> None:
    """Write a checkpoint that bears its name when it is whole; collective, on any thread.

    Args:
        state: What this rank writes.
        progress: Where the run stands.
        final: The folder.
        ranks: With a group that nobody else speaks on meanwhile.
        copies: Files that are copied into the folder.
        keep: How many checkpoints are kept besides the best one.
        planner: Makes the tensors instead of ``state``.

    Raises:
        OSError: On all ranks, if one of them could not write; what was written is gone again.
    """
    unfinished = final.with_name(final.name + UNFINISHED)
    try:
        ranks.from_first(lambda: _make_empty(unfinished))
        _write_state(state, unfinished, ranks, planner)
        digests = _agreed(_digests(unfinished, ranks.rank), ranks)
        ranks.from_first(lambda: _complete(unfinished, progress, copies, digests))
        ranks.from_first(lambda: _publish(unfinished, final, best=progress.best_step, keep=keep))
    except OSError as error:
        if ranks.is_first:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise OSError(
            f"checkpoint {final} could not be written: {error}; make room or choose another "
            f"--output, and go on with --resume"
        ) from error


def _write_state(
    state: dict[str, Any], folder: Path, ranks: Ranks, planner: SavePlanner | None
) -> None:
    try:
        dcp.save(state, checkpoint_id=folder, process_group=ranks.control, planner=planner)
    except dcp.api.CheckpointException as error:
        failure, _ = next(iter(error.failures.values()))
        raise OSError(str(failure)) from error


def _digests(folder: Path, rank: int) -> dict[str, Digest] | OSError:
    """Of the files that a rank has written."""
    try:
        return {path.name: digest(path) for path in folder.glob(f"__{rank}_*")}
    except OSError as error:
        return error


def _agreed(own: dict[str, Digest] | OSError, ranks: Ranks) -> dict[str, Digest]:
    """The digests of all ranks' files."""
    digests: dict[str, Digest] = {}
    for of_rank in ranks.gather(own):
        if isinstance(of_rank, OSError):
            raise of_rank
        digests |= of_rank
    return digests


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _complete(
    folder: Path, progress: Progress, copies: Sequence[Path], digests: dict[str, Digest]
) -> None:
    """Write the files that exist once, the manifest last."""
    write_progress(progress, folder)
    for path in copies:
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    for path in folder.iterdir():
        if path.name not in digests:
            with path.open("rb") as file:
                os.fsync(file.fileno())
            digests[path.name] = digest(path)
    write_manifest(folder, digests)


def _publish(unfinished: Path, final: Path, *, best: int, keep: int) -> None:
    """Give a whole checkpoint its name, and remove old ones; at any moment one is there."""
    if final.exists():  # the same step, now at the end of its epoch
        final.rename(final.with_name(final.name + REPLACED))
    unfinished.rename(final)
    sync_folder(final.parent)
    remove_leftovers(final.parent)
    for path in finished(final.parent)[:-keep]:
        if path.name != name_of(best):
            _remove(path)


def remove_leftovers(folder: Path) -> None:
    """Remove what a run that was killed has not finished writing, replacing or removing."""
    for path in folder.glob(f"{PREFIX}*"):
        is_replaced = path.suffix == REPLACED and path.with_suffix("").exists()
        if is_replaced or path.suffix == UNFINISHED:
            _remove(path)


def _remove(path: Path) -> None:
    """Take the name away first: killed in between, half a checkpoint would look like a whole."""
    unnamed = path.with_suffix(UNFINISHED)
    if path != unnamed:
        shutil.rmtree(unnamed, ignore_errors=True)
        path.rename(unnamed)
    shutil.rmtree(unnamed, ignore_errors=True)
