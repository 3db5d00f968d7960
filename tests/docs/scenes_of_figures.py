"""As `tests.docs.scenes`, for comparisons and benchmarks: cut to a look whether they work."""

from collections.abc import Mapping

from tests.docs.walking import Rule, Scene

LOOK = "sizes and repeats of a measurement are cut to a look whether it works"
SPEC = """
cat >SPEC.toml <<END
fields = ["C1", "C9", "C20"]
budgets = ["4x"]
[recipes.fm]
preset = "fm"
batch_size = 1024
[sizings.uniform]
scheme = "uniform"
[sizings.sseds]
search = "sseds"
dim = 8
END
"""
MC10 = """
mixdim prepare synthetic --rows 20000 --min-count 10 --output mc10
mixdim size mc10 --dim 16 --output uniform16.json
"""
SMALL_BENCH = " --repeats 1 --quiet-seconds 0 --batch-size 512 --warmup-steps 1 --steps 2"

FIGURES: Mapping[str, Scene] = {
    "docs/compare.md": Scene(
        starts_with=("data",),
        before=SPEC,
        rules=(
            Rule(
                line=r"\[--data DATA\] \[--output DIR\] \[--parallel N\] \[--dry-run\].*",
                why="a synopsis; each of its flags once",
                swap="--data data --output out --dry-run; "
                "mixdim compare SPEC.toml --data data --output out --parallel 1 --sizings uniform "
                "--seeds 0 --retry-failed --json; "
                "mixdim compare SPEC.toml --data data --output out --plot-only",
                after="ls out/*.png out/*.md",
            ),
            Rule(
                line=r"SPEC\.toml --recipes(.*)--seeds 0 1",
                why="the file names data and folder; one seed",
                swap=r"SPEC.toml --data data --output out --recipes\1--seeds 0",
                after="grep -q sseds out/*.md",
            ),
            Rule(
                line="RUN --slices item_id user_id",
                why="fields of the run that is there",
                swap="RUN --slices C9 C20",
                before="mixdim size data --dim 4 --output four.json; "
                "mixdim train fm --data data --sizing four.json --output RUN",
                after='grep -q tail "$OUT"',
            ),
        ),
    ),
    "docs/benchmarks/export.md": Scene(
        rules=(
            Rule(
                line="--rows 20000 --seconds 0.15 --output docs/benchmarks/export.json",
                why=LOOK,
                swap="--rows 2000 --seconds 0.01 --networks dlrm mf --output export.json",
            ),
        )
    ),
    "docs/benchmarks/plans.md": Scene(
        rules=(
            Rule(line="--rows 1300000", why=LOOK, swap="--rows 20000"),
            Rule(
                line="--repeats 3 --steps 60(.*) uniform-4.json uniform-1.json popularity-4x.json",
                why=f"{LOOK}; two of the five plans",
                swap=r"--repeats 1 --quiet-seconds 0 --batch-size 512 --warmup-steps 1 --steps 2\1",
                after='for plan in uniform-16 popularity-12x; do grep -q "$plan" "$OUT"; done; '
                "ls uniform-4.json uniform-1.json popularity-4x.json",
            ),
        ),
    ),
    "docs/benchmarks/race.md": Scene(
        rules=(
            Rule(
                line="--rows 1250000 --scale 1 --min-count 10",
                why=LOOK,
                swap="--rows 60000 --scale 0.1 --min-count 2",
            ),
            Rule(
                line="--repeats 3",
                why=f"{LOOK}; the rivals' environments are made by pip",
                swap="--repeats 1 --quiet-seconds 0 --batch-size 512 --only mixdim-uniform-fp32 "
                "mixdim-mixed13-fp32",
                after='grep -q mixdim-mixed13-fp32 "$OUT"',
            ),
        )
    ),
    "docs/benchmarks/scaling.md": Scene(
        before=MC10,
        rules=(
            Rule(line="--nproc 1 2 4 --precisions fp32 bf16", why=LOOK, swap="--nproc 2"),
            Rule(
                line=r"(mixdim bench plans [^']*)",
                why=LOOK,
                swap=rf"\1{SMALL_BENCH}",
                after='grep -qi "uniform16" "$OUT"',
            ),
            Rule(
                line="--cluster my-machine.toml",
                why="measuring a machine takes minutes; a cluster that is described",
                swap="--cluster a100x8",
                after="test -s scaling.png",
            ),
        ),
    ),
    "docs/benchmarks/service.md": Scene(
        rules=(
            Rule(
                line=r"load --database sqlite",
                why=LOOK,
                swap="load --database sqlite --clients 8 --requests 80 --jobs 4",
            ),
            Rule(
                line=r"kills --database sqlite", why=LOOK, swap="kills --database sqlite --kills 2"
            ),
        )
    ),
}
