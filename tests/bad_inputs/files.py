"""Datasets, sizings, plans and comparisons that are no good."""

from tests.bad_inputs.world import BadInput, changed, entry, gone, half, text

SIZE = (
    BadInput(
        name="no dataset",
        command="size nowhere",
        says=("nowhere holds no dataset.json; make the dataset with `mixdim prepare`",),
    ),
    BadInput(
        name="dataset.json was cut short",
        make=changed("data/dataset.json", half),
        command="size data --output new.json",
        says=("data/dataset.json: ", "prepare the dataset again"),
    ),
    BadInput(
        name="dataset.json of an older version",
        make=entry("data/dataset.json", "format_version", value=1),
        command="size data --output new.json",
        says=("data/dataset.json: format_version=1, expected 2; prepare the dataset again",),
    ),
    BadInput(
        name="dataset.json without a field's statistics",
        make=entry("data/dataset.json", "fields", "0", "stats", value=None),
        command="size data --output new.json",
        says=("data/dataset.json: fields.0.stats: Field required", "prepare the dataset again"),
    ),
    BadInput(
        name="a scheme that is none",
        command="size data --scheme populrity",
        says=("populrity", "popularity"),
    ),
    BadInput(
        name="a budget that is no amount",
        command="size data --budget lots",
        says=("lots", "512MiB"),
    ),
    BadInput(
        name="a budget that nothing fits into",
        command="size data --budget 10",
        code=3,
        says=("10",),
    ),
    BadInput(
        name="sizing.json cannot be written",
        command="size data --output log.tsv/sizing.json",
        says=("log.tsv: File exists; check the path",),
    ),
)

PLAN = (
    BadInput(
        name="no sizing.json",
        make=gone("sizing.json"),
        command="plan --output new.json",
        says=("sizing.json does not exist; make it with `mixdim size DATA`",),
    ),
    BadInput(
        name="sizing.json was cut short",
        make=changed("sizing.json", half),
        command="plan --output new.json",
        says=("sizing.json: Invalid JSON", "line"),
    ),
    BadInput(
        name="sizing.json with a width that no kernel takes",
        make=entry("sizing.json", "fields", "C1", "0", "embedding_dim", value=6),
        command="plan --output new.json",
        says=("sizing.json", "'C1'", "embedding_dim=6", "try 8"),
    ),
    BadInput(
        name="sizing.json with a negative number of rows",
        make=entry("sizing.json", "fields", "C1", "0", "num_embeddings", value=-40),
        command="plan --output new.json",
        says=("sizing.json", "C1", "-40"),
    ),
    BadInput(
        name="a cluster that is none",
        command="plan --cluster dgx-h1000",
        says=("'dgx-h1000' is neither a cluster nor a file; clusters:",),
    ),
    BadInput(
        name="no ranks",
        command="plan --ranks 0",
        says=("--ranks 0, expected at least 1",),
    ),
    BadInput(
        name="tables that fit on no rank",
        make=entry("sizing.json", "fields", "C1", "0", "num_embeddings", value=10**13),
        command="plan --output new.json",
        code=3,
        says=("'C1'",),
    ),
)

REST = (
    BadInput(
        name="no sizing.json to explain",
        command="explain nowhere.json",
        says=("nowhere.json does not exist; make it with `mixdim size DATA`",),
    ),
    BadInput(
        name="another file than a sizing.json",
        command="explain data/dataset.json",
        says=("data/dataset.json: ",),
    ),
    BadInput(
        name="no comparison",
        command="compare nowhere.toml",
        says=("nowhere.toml does not exist; docs/compare.md shows what to write",),
    ),
    BadInput(
        name="a comparison that is no TOML",
        make=text("spec.toml", "data: here\n"),
        command="compare spec.toml",
        says=("spec.toml: ", "line 1"),
    ),
    BadInput(
        name="a comparison with a key that there is not",
        make=text("spec.toml", "sizingz = 1\n"),
        command="compare spec.toml",
        says=("spec.toml: ",),
    ),
    BadInput(
        name="a verb that is none",
        command="trian smoke",
        says=("'trian' is not a verb; verbs: prepare",),
    ),
)
