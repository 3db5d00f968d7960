"""What every page takes for granted when it is typed from its top, and what a walk does otherwise.

Sizes are cut so that all walks end within minutes. Whatever stands here as `why` is what the walk
does not show of a line.
"""

from collections.abc import Mapping

from tests.docs.walking import Rule, Scene

MOVIELENS = """
python - >ratings.dat <<END
for user in range(1, 200):
    for item in range(1, 21):
        print(user, 1 + (user * item) % 90, 1 + user * item % 5, 978300000 + user * item, sep="::")
END
mixdim prepare movielens ratings.dat --output data
"""
LARGER = """mixdim prepare synthetic --rows 200000 --output data
mixdim size data --budget 4x --output sizing.json"""
ALTERNATIVE = "the page has several ways to the same run"
SHORT = "a measurement is cut to a look whether it measures"

SHARED = (
    Rule(
        line=r"\.venv/bin/activate",
        why="the environment is the one that the tests run in",
        swap="$VENV/bin/activate",
    ),
    Rule(
        line="^mixdim serve ",
        why="a server",
        until="http://127.0.0.1:8080/healthz",
    ),
)
"""For every page."""

PYTHON_JSON = 'python -c "import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])"'

DEMO = Scene(
    before="mixdim prepare synthetic --rows 8000 --raw train.txt",
    rules=(
        Rule(
            line="make demo",
            why="8,000 rows instead of 500,000; the environment is there already",
            swap='make -C "$REPOSITORY" -o "$VENV/.installed" VENV="$VENV" '
            'INPUT="$HOME/train.txt" OUTPUT="$HOME/demo" demo',
            after='for plan in "uniform 16 " "same bytes" "4x fewer" "popularity, 10x" '
            '"spectral, 10x"; do grep -- "$plan" "$OUT"; done',
        ),
    ),
)

PAGES: Mapping[str, Scene] = {
    "README.md": Scene(before="mixdim prepare synthetic --rows 8000 --raw day.gz --days 2"),
    "docs/first-run.md": Scene(
        rules=(
            Rule(
                line="^mixdim evaluate",
                after='test -s runs/small/result.json; grep auc "$OUT"',
            ),
        )
    ),
    "docs/how-wide.md": Scene(starts_with=("day_0.gz",)),
    "docs/spectral.md": Scene(starts_with=("data",)),
    "docs/search.md": Scene(before="mixdim prepare synthetic --rows 30000 --output data"),
    "docs/install.md": Scene(starts_with=("runs/a",)),
    "docs/models.md": Scene(before=MOVIELENS),
    "docs/sizing.md": Scene(
        before=MOVIELENS + "mv data ml1m",
        rules=(
            Rule(
                line="^mixdim size data .* 4x --fields",
                after='grep "^training bytes  *94,636 " "$OUT"',
            ),
            Rule(line="--rows auto", after='grep "3,215 rare ids" "$OUT"'),
            Rule(
                line="^mixdim explain popularity.json",
                why="the page has the figures of two plans that a reader has made",
                before="for scheme in popularity uniform; do mixdim size data --scheme $scheme "
                "--fields C1 C3 C9 C26 --output $scheme.json; done",
            ),
        ),
    ),
    "docs/export.md": Scene(
        starts_with=("data", "runs/a", "day_0.gz"),
        before="{ seq -f I%g 13; seq -f C%g 26; } | tr '\\n' , | sed 's/,$/\\n/' >rows.csv; "
        "zcat day_0.gz | sed -n '1,50p' | cut -f 2- | tr '\\t' , >>rows.csv",
        rules=(
            Rule(
                line="^mixdim serve-model",
                why="a server",
                until="http://127.0.0.1:8080/readyz",
            ),
            Rule(line="^mixdim predict", after='test "$(wc -l <out.csv)" = 51'),
            Rule(
                line="/predict",
                why="the page leaves columns of its row out",
                before="curl -s 127.0.0.1:8080/model >model.json; python - >rows.json <<END\n"
                "import json\n"
                "row = dict.fromkeys(json.load(open('model.json'))['columns'])\n"
                "print(json.dumps({'rows': [row | {'I1': 3, 'C1': '68fd1e64'}]}))\nEND",
                after='grep -q predictions "$OUT"',
            ),
        ),
    ),
    "docs/monitoring.md": Scene(
        before=f'{LARGER}\nln -s "$REPOSITORY/deploy" deploy',
        rules=(
            Rule(
                line="^mixdim train",
                why="the reader looks while it trains",
                until="http://127.0.0.1:9400/metrics",
            ),
            Rule(line="^curl", after='grep -q "^mixdim_train" "$OUT"'),
            Rule(line="^sed", after='grep -q "https://docs.example.org/" "$OUT"'),
        ),
    ),
    "docs/runbook.md": Scene(
        before=f"{LARGER}\nmixdim train dlrm --data data --sizing sizing.json --output RUN "
        "--metrics-port 9400 & until_answers http://127.0.0.1:9400/metrics; "
        "until test -s RUN/metrics.jsonl; do sleep 0.2; done",
        rules=(
            Rule(
                line="--resume",
                why="a reader goes on with what has ended",
                before="kill -TERM %1; wait %1 || test $? = 143",
            ),
        ),
    ),
    "docs/train.md": Scene(
        starts_with=("data", "sizing.json"),
        rules=(
            Rule(
                line=r"PRESET_OR_FILE --data DATA(.*) \[--nproc N\] \.\.\.",
                why="words for what a reader chooses",
                swap=r"deepfm --data data\1 --nproc 2",
            ),
            Rule(
                line=r"PRESET \.\.\.",
                why="words for what a reader chooses",
                swap="deepfm --data data",
                before="test -e other.json || mixdim size data --dim 8 --output other.json",
            ),
            Rule(
                line="--dry-run",
                why="nothing is written",
                after='test -s "$OUT"; test ! -e NEW',
            ),
            Rule(
                line="--log-to",
                after="ls runs/a/tensorboard/*tfevents* runs/mlruns runs/a/mlflow.json",
            ),
            Rule(line="^tensorboard", why="a server", until="http://127.0.0.1:6006"),
        ),
    ),
}
"""By page."""
