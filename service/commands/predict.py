"""``mixdim predict ARTIFACT --input rows.csv --output out.csv``: score a file of raw rows."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PredictCommand:
    """Score raw rows with an artifact."""

    artifact: tyro.conf.Positional[Path]
    """Folder written by ``mixdim export``."""

    input: Path
    """Rows: CSV, TSV, JSON lines or Parquet, by the ending; text may be .gz or .zst; ``-`` for
    standard input. Text without a header has the columns of the data that was trained on, with or
    without the label."""

    output: Path = Path("-")
    """One prediction a row: CSV or Parquet, by the ending; ``-`` for standard output."""

    skip_bad_rows: bool = False
    """Leave the prediction of a row that is no good empty, instead of ending with an error."""

    json: bool = False
    """Print what became of the rows as JSON, to standard error where predictions go out."""


def main(argv: Sequence[str]) -> int:
    """Score a file; say how many rows there were."""
    command = tyro.cli(PredictCommand, args=list(argv), prog="mixdim predict")

    from service.serving import load
    from service.serving.predict_file import predict_file

    artifact = load(command.artifact)
    predicted = predict_file(
        artifact, command.input, command.output, skip_bad=command.skip_bad_rows
    )
    summary = dataclasses.asdict(predicted) | {"version": artifact.manifest.version}
    text = f"{predicted.num_rows:,} rows, {predicted.num_bad:,} without a prediction"
    print(json.dumps(summary) if command.json else text, file=_story(command.output))
    return 0


def _story(output: Path) -> TextIO:
    return sys.stderr if output == Path("-") else sys.stdout
