"""Configurations and data that `mixdim train` refuses."""

from tests.bad_inputs.world import (
    PART,
    TAKEN_PORT,
    BadInput,
    called,
    changed,
    entry,
    flipped,
    gone,
    half,
    taken_port,
    text,
)

SMALL = "--batch-size 64 --max-steps 3 --matmul mkl"
TRAIN = f"train smoke --data data --sizing sizing.json --output new {SMALL}"
RESUME = "train smoke --data data --sizing sizing.json --output run --batch-size 64 --resume"

REFUSED = (
    BadInput(
        name="a preset that is none",
        command="train criteo-populrity",
        says=("'criteo-populrity' is neither a preset nor a file; presets: dlrm",),
    ),
    BadInput(
        name="a configuration that is no TOML",
        make=text("mine.toml", "batch_size = = 3\n"),
        command="train mine.toml",
        says=("mine.toml: ", "line 1"),
    ),
    BadInput(
        name="a configuration with a key that there is not",
        make=text("mine.toml", "batchsize = 3\n"),
        command="train mine.toml",
        says=("mine.toml: batchsize: there is no such key",),
    ),
    BadInput(
        name="a configuration with a value out of range",
        make=text("mine.toml", "batch_size = 0\n"),
        command="train mine.toml",
        says=("mine.toml: batch_size=0, expected at least 1",),
    ),
    BadInput(
        name="a configuration in another encoding",
        make=text("mine.toml", b"\xff\xfe\x00"),
        command="train mine.toml",
        says=("mine.toml: ",),
    ),
    BadInput(
        name="a flag that is none",
        command=f"{TRAIN} --batchsize 3",
        says=("--batchsize", "--batch-size"),
    ),
    BadInput(
        name="a sizing of another dataset",
        make=entry("data/dataset.json", "fields", "0", "stats", "num_embeddings", value=41),
        command=TRAIN,
        says=("field C1: sizing has 40 rows, dataset has 41; run mixdim size again",),
    ),
    BadInput(
        name="a field that the dataset does not have",
        make=entry("data/dataset.json", "fields", "0", "stats", "name", value="C9"),
        command=TRAIN,
        says=("field 'C1' is sized but not in the dataset", "run mixdim size again"),
    ),
    BadInput(
        name="sharding.json was cut short",
        make=text("sharding.json", '{"format_version": 1, "placement'),
        command=f"{TRAIN} --plan sharding.json",
        says=("sharding.json: Invalid JSON",),
    ),
    BadInput(
        name="no sharding.json",
        command=f"{TRAIN} --plan sharding.json",
        says=("sharding.json does not exist; make it with `mixdim plan`",),
    ),
    BadInput(
        name="sharding.json for another number of ranks",
        make=lambda folder: called("plan --ranks 2 --output sharding.json", folder),
        command=f"{TRAIN} --plan sharding.json",
        says=("sharding.json places tables on 2 ranks, this job has 1; run mixdim plan",),
    ),
    BadInput(
        name="a part is missing",
        make=gone(PART),
        command=TRAIN,
        says=(f"part {PART} is missing", "prepare the dataset again"),
    ),
    BadInput(
        name="a part was cut short",
        make=changed(PART, half),
        command=TRAIN,
        says=(f"part {PART} has", "dataset.json says", "prepare the dataset again"),
    ),
    BadInput(
        name="a part with a flipped bit",
        make=changed(PART, flipped),
        command=TRAIN,
        says=(f"part {PART}, row group 2", "restore the file or prepare the dataset again"),
    ),
    BadInput(
        name="a part that is no Parquet file",
        make=changed(PART, lambda data: b"x" * len(data)),
        command=TRAIN,
        says=(f"part {PART} is no Parquet file", "prepare the dataset again"),
    ),
    BadInput(
        name="a part of another dataset",
        make=lambda folder: (folder / PART).write_bytes(
            (folder / PART.replace("-00001", "-00000")).read_bytes()
        ),
        command=TRAIN,
        says=(f"part {PART}", "dataset.json"),
    ),
    BadInput(
        name="ids beyond the vocabulary",
        make=lambda folder: (
            entry("data/dataset.json", "fields", "0", "stats", "num_embeddings", value=20)(folder),
            entry("sizing.json", "fields", "C1", "0", "num_embeddings", value=20)(folder),
        ),
        command=TRAIN,
        says=("row group", "field 'C1': id ", "expected 0 to 19", "prepare the dataset again"),
    ),
    BadInput(
        name="a training split without rows",
        make=lambda folder: (
            entry("data/dataset.json", "splits", "train", "num_rows", value=0)(folder),
            entry("data/dataset.json", "splits", "train", "parts", value=[])(folder),
        ),
        command=TRAIN,
        says=("split 'train' of data has no rows, expected at least 1",),
    ),
    BadInput(
        name="an output that holds another run",
        command=TRAIN.replace("--output new", "--output run"),
        says=("run is not empty; give --resume", "--overwrite", "another --output"),
        needs_run=True,
    ),
    BadInput(
        name="an output that cannot be made",
        command=TRAIN.replace("--output new", "--output log.tsv/run"),
        says=("log.tsv/run: Not a directory; check the path",),
    ),
    BadInput(
        name="a port that is taken",
        around=taken_port,
        command=f"{TRAIN} --metrics-port {TAKEN_PORT}",
        says=(str(TAKEN_PORT), "--metrics-port"),
    ),
    BadInput(
        name="more GPUs than there are",
        command=f"{TRAIN} --device cuda",
        says=("wants a GPU, this machine has 0", "--device cpu"),
    ),
    BadInput(
        name="a resume in the middle of an epoch on other data",
        make=entry("data/dataset.json", "splits", "train", "label_mean", value=0.25),
        command=RESUME,
        says=("run/checkpoints/step-00000003",),
        needs_run=True,
    ),
)
