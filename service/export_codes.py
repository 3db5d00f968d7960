"""Export a finished run's codes and their values, which is all that serving needs of its tables."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from models.embeddings.coded import DPQChoice, MGQEChoice
from models.embeddings.dpq import Codes
from models.embeddings.quantizer import Quantizer
from models.tables import Table
from service.checkpoint import StoredTensors, best_checkpoint
from service.coded_tables import (
    CODES_FILE,
    INDEX,
    INDEX_FILE,
    VALUES_FILE,
    CodedField,
    CodedIndex,
    CodeWriter,
)
from service.run_folder import SIZING_FILE, RunFolder
from service.sizing import read_sizing
from service.warm_up import EMBEDDINGS, TABLES

logger = logging.getLogger(__name__)

CHUNK_ROWS: Final = 65_536
"""Rows that are read and coded at a time; a multiple of 8, so that codes fill whole bytes."""


@torch.no_grad()
def export_codes(run: Path, folder: Path, checkpoint: Path | None = None) -> int:
    """Write codes and values of a run's best checkpoint; the bytes that they take.

    Nothing is trained, no process group is joined, and one stored piece of a table is held.

    Args:
        run: Run folder of embeddings of kind ``dpq`` or ``mgqe``.
        folder: Where to write; what is there is replaced as a whole.
        checkpoint: Another one of its checkpoints.

    Raises:
        ValueError: If the run has embeddings of another kind.
        FileNotFoundError: If the folder holds no run, or the run left no checkpoint.
    """
    config = RunFolder(run).read_config()
    choice = config.embeddings
    if not isinstance(choice, DPQChoice | MGQEChoice):
        raise ValueError(
            f"run {run} has embeddings of kind {choice.kind!r}, which has no codes; name a run of "
            f"kind 'dpq' or 'mgqe'"
        )
    checkpoint = checkpoint or best_checkpoint(RunFolder(run).checkpoints)
    if checkpoint is None:
        raise FileNotFoundError(f"{run} holds no finished checkpoint; train it to its end")
    plan = replace(read_sizing(run / SIZING_FILE).plan, join=config.network.join)
    tables, coded = list(plan.tables()), choice.coded(plan)
    stored = StoredTensors(checkpoint)
    codes = Codes(choice, tables, coded)
    names = codes.state_dict().keys()
    codes.load_state_dict(
        {name: torch.from_numpy(stored.read(f"{EMBEDDINGS}codes.{name}")) for name in names}
    )
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with (draft / CODES_FILE).open("wb") as bits, (draft / VALUES_FILE).open("wb") as values:
        writer = CodeWriter(bits, values)
        order = [table.name for table in coded]
        for table in tables:
            if table.name in order:
                _write_coded(
                    writer, table, choice, stored, codes.quantizer.of_field(order.index(table.name))
                )
            else:
                _write_whole(writer, table, stored)
    index = CodedIndex(fields=tuple(writer.fields), checkpoint=f"{run.name}/{checkpoint.name}")
    (draft / INDEX_FILE).write_bytes(INDEX.dump_json(index, indent=1) + b"\n")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    num_bytes = sum((folder / name).stat().st_size for name in (CODES_FILE, VALUES_FILE))
    logger.info("exported %d coded fields, %d bytes, to %s", len(coded), num_bytes, folder)
    return num_bytes


def _write_coded(
    writer: CodeWriter,
    table: Table,
    choice: DPQChoice | MGQEChoice,
    stored: StoredTensors,
    quantizer: Quantizer,
) -> None:
    tiers = choice.tiers(table.num_embeddings)
    writer.add(
        CodedField(
            name=table.field,
            dim=table.embedding_dim,
            num_ids=table.num_embeddings,
            tiers=tiers,
            groups=choice.groups,
            shared_values=choice.shares_groups,
        )
    )
    writer.write_values(quantizer.values.numpy())
    first = 0
    for tier in tiers:
        for rows in _rows(stored, table, first, first + tier.num_ids):
            rare = torch.full((len(rows), 1), tier.num_codes < quantizer.num_codes)
            chosen = quantizer.choose(rows.unsqueeze(1), rare, None)
            writer.write_codes(chosen.numpy(), tier.code_bits)
        first += tier.num_ids


def _write_whole(writer: CodeWriter, table: Table, stored: StoredTensors) -> None:
    dim, num_ids = table.embedding_dim, table.num_embeddings
    writer.add(CodedField(name=table.field, dim=dim, num_ids=num_ids))
    for rows in _rows(stored, table, 0, num_ids):
        writer.write_values(rows.numpy())


def _rows(stored: StoredTensors, table: Table, first: int, end: int) -> Iterator[Tensor]:
    name = f"{TABLES}{table.name}.weight"
    for start in range(first, end, CHUNK_ROWS):
        rows = stored.read(name, slice(start, min(end, start + CHUNK_ROWS)))
        yield torch.from_numpy(rows)
