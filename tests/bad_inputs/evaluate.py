"""Runs that `mixdim evaluate` refuses."""

import json

from tests.bad_inputs.world import BadInput, changed, flipped, gone, half, text

EVALUATE = (
    BadInput(
        name="no run",
        command="evaluate data",
        says=("data holds no run.json; train with `mixdim train`",),
    ),
    BadInput(
        name="run.json was cut short",
        make=changed("run/run.json", half),
        command="evaluate run",
        says=("run/run.json: ",),
        needs_run=True,
    ),
    BadInput(
        name="run.json without its configuration",
        make=text("run/run.json", json.dumps({"versions": {}})),
        command="evaluate run",
        says=("run/run.json: ",),
        needs_run=True,
    ),
    BadInput(
        name="no checkpoint",
        make=gone("run/checkpoints"),
        command="evaluate run",
        says=("run/checkpoints holds no checkpoint; go on with `mixdim train --resume`",),
        needs_run=True,
    ),
    BadInput(
        name="a checkpoint with a flipped bit, and no other",
        make=changed("run/checkpoints/step-00000003/__0_0.distcp", flipped),
        command="evaluate run",
        says=(
            "run/checkpoints holds no whole checkpoint",
            "step-00000003: __0_0.distcp has another checksum than when it was written",
            "copy one back from a backup, or train anew with --overwrite",
        ),
        needs_run=True,
    ),
    BadInput(
        name="a dataset that is gone",
        make=gone("data"),
        command="evaluate run",
        says=("data holds no dataset.json",),
        needs_run=True,
    ),
    BadInput(
        name="a split that is none",
        command="evaluate run --split tests",
        says=("tests", "test"),
        needs_run=True,
    ),
    BadInput(
        name="a field that is none",
        command="evaluate run --slices C9",
        says=("slices: 'C9' is not a field of the dataset; try one of C1, C2, C3",),
        needs_run=True,
    ),
    BadInput(
        name="a vocabulary that is gone",
        command="evaluate run --slices C1",
        says=("data/vocab/C1.parquet", "prepare the dataset again"),
        needs_run=True,
    ),
)
