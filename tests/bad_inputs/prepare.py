"""Raw logs and flags that `mixdim prepare` refuses."""

import gzip

from tests.bad_inputs.world import LINE, PART, BadInput, changed, full_disk, gone, half, text

CRITEO = "prepare criteo log.tsv --output out"
SCHEMA = 'label = "clicked"\ncategorical = ["site"]\n'
TABLE = "prepare table rows.csv --schema schema.toml --output out"

PREPARE = (
    BadInput(
        name="the input is not there",
        make=gone("log.tsv"),
        command=CRITEO,
        says=("log.tsv does not exist; check the input path",),
    ),
    BadInput(
        name="the input is a folder",
        command="prepare criteo data --output out",
        says=("data is not a regular file",),
    ),
    BadInput(
        name="the input is empty",
        make=text("log.tsv", ""),
        command=CRITEO,
        says=("the input has no data lines; expected at least one",),
    ),
    BadInput(
        name="the input was cut short while it was copied",
        make=text("log.tsv.gz", half(gzip.compress(LINE.encode() * 400, mtime=0))),
        command="prepare criteo log.tsv.gz --output out",
        says=("log.tsv.gz cannot be read", "is the file whole?"),
    ),
    BadInput(
        name="the input is no gzip file, though its name says so",
        make=text("log.tsv.gz", LINE * 400),
        command="prepare criteo log.tsv.gz --output out",
        says=("log.tsv.gz cannot be read", "is the file whole?"),
    ),
    BadInput(
        name="the input is no text",
        make=text("log.tsv", bytes(range(256)) * 400),
        command=CRITEO,
        says=("log.tsv, line 1", "--max-reject-ratio"),
    ),
    BadInput(
        name="the input has commas instead of tabs",
        make=changed("log.tsv", lambda data: data.replace(b"\t", b",")),
        command=CRITEO,
        says=("log.tsv, line 1: 1 columns, expected 40", "--max-reject-ratio"),
    ),
    BadInput(
        name="labels are 1 and 2",
        make=changed("log.tsv", lambda data: data.replace(b"\n1\t", b"\n2\t")),
        command=CRITEO,
        says=("log.tsv, line 2", "is not a label; expected 0 or 1"),
    ),
    BadInput(
        name="all labels are alike",
        make=changed("log.tsv", lambda data: data.replace(b"\n1\t", b"\n0\t")),
        command=CRITEO,
        says=("training rows have label 0, expected different ones; check the label column",),
    ),
    BadInput(
        name="a column of numbers holds words",
        make=changed("log.tsv", lambda data: data.replace(b"\t1\t", b"\tmany\t", 1) * 1),
        command=CRITEO,
        says=("log.tsv, line 1: column I1: 'many' is not a number", "--max-reject-ratio"),
    ),
    BadInput(
        name="the output is a dataset already",
        command="prepare criteo log.tsv --output data",
        says=("data exists; choose another --output or add --overwrite",),
    ),
    BadInput(
        name="the output is a folder of something else",
        make=lambda folder: (folder / "mine").mkdir(),
        command="prepare criteo log.tsv --output mine --overwrite",
        says=("mine exists and is not a dataset", "choose another --output"),
    ),
    BadInput(
        name="the output lies in a file",
        command="prepare criteo log.tsv --output sizing.json/out",
        says=("out cannot be written", "choose another --output"),
    ),
    BadInput(
        name="the disk is full",
        around=full_disk,
        command="prepare criteo log.tsv --output data --overwrite",
        says=("data cannot be written: File too large; free some space",),
    ),
    BadInput(
        name="no row is in the training split",
        command=f"{CRITEO} --fractions 0.001 0.0 0.999",
        says=("raise the first of --fractions",),
    ),
    BadInput(
        name="shares do not add up",
        command=f"{CRITEO} --fractions 0.8 0.1 0.2",
        says=("fractions=(0.8, 0.1, 0.2)", "add up to 1"),
    ),
    BadInput(
        name="a threshold of 0",
        command=f"{CRITEO} --min-count 0",
        says=("min_count=0, expected at least 1",),
    ),
    BadInput(
        name="an amount of memory that is none",
        command=f"{CRITEO} --memory much",
        says=("memory='much', expected an amount such as 512MiB",),
    ),
    BadInput(
        name="a split by time of data without time",
        command=f"{CRITEO} --split time",
        says=("criteo data has no time column; use random or order",),
    ),
    BadInput(
        name="a flag with a typo",
        command=f"{CRITEO} --min-cuont 3",
        says=("--min-cuont", "--min-count"),
    ),
    BadInput(
        name="a source that is none",
        command="prepare cirteo log.tsv --output out",
        says=("cirteo", "criteo"),
    ),
    BadInput(
        name="a table without its schema",
        command=TABLE,
        make=text("rows.csv", "clicked,site\n0,a\n1,b\n"),
        says=("--schema schema.toml does not exist; see docs/prepare.md",),
    ),
    BadInput(
        name="a schema that is no TOML",
        make=lambda folder: (
            text("rows.csv", "clicked,site\n0,a\n")(folder),
            text("schema.toml", "label = clicked\n")(folder),
        ),
        command=TABLE,
        says=("schema.toml cannot be read", "line 1"),
    ),
    BadInput(
        name="a schema with a key that there is not",
        make=lambda folder: (
            text("rows.csv", "clicked,site\n0,a\n")(folder),
            text("schema.toml", SCHEMA + 'densee = ["price"]\n')(folder),
        ),
        command=TABLE,
        says=("schema.toml", "densee", "docs/prepare.md"),
    ),
    BadInput(
        name="a schema with a column that the file lacks",
        make=lambda folder: (
            text("rows.csv", "clicked,page\n0,a\n1,b\n")(folder),
            text("schema.toml", SCHEMA)(folder),
        ),
        command=TABLE,
        says=("rows.csv", "'site'"),
    ),
    BadInput(
        name="a table that holds its header alone",
        make=lambda folder: (
            text("rows.csv", "clicked,site\n")(folder),
            text("schema.toml", SCHEMA)(folder),
        ),
        command=TABLE,
        says=("the input has no data lines",),
    ),
    BadInput(
        name="a Parquet file that was cut short",
        make=lambda folder: (
            text("rows.parquet", half((folder / PART).read_bytes()))(folder),
            text("schema.toml", SCHEMA)(folder),
        ),
        command="prepare table rows.parquet --schema schema.toml --output out",
        says=("rows.parquet",),
    ),
    BadInput(
        name="another file than Avazu's",
        command="prepare avazu log.tsv --output out",
        says=("log.tsv", "expected Avazu's train.csv"),
    ),
    BadInput(
        name="another file than MovieLens'",
        command="prepare movielens log.tsv --output out",
        says=("log.tsv",),
    ),
)
