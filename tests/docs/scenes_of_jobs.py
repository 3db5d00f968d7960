"""As `tests.docs.scenes`, for the pages on jobs: launchers, containers, clusters, service."""

from collections.abc import Mapping

from tests.docs.walking import Rule, Scene

ALTERNATIVE = "the page shows several ways to the same run, and each is taken"
NO_GPU = "no GPU, and two cores"

JOBS: Mapping[str, Scene] = {
    "docs/launch.md": Scene(
        starts_with=("data", "sizing.json"),
        rules=(
            Rule(
                line=r"^(torchrun|torchx run .*local_cwd|docker run|mixdim submit --ranks)",
                why=ALTERNATIVE,
                before="rm -rf runs/a",
            ),
            Rule(
                line=r"^(mixdim submit --ranks.*)",
                why="so long that it can be watched and cancelled; its name is what JOB stands for",
                swap=r"\1 --epochs 3000 --patience 3000 --checkpoint-every 50",
                after='JOB=$(cat "$OUT"); until_is running "$JOB"; '
                "until grep -q step <(mixdim jobs logs $JOB); do sleep 1; done",
            ),
            Rule(line=r"\bJOB\b", why="a word for the job's name", swap='"$JOB"'),
            Rule(line="^mixdim jobs list", after='grep -q "$JOB" "$OUT"'),
            Rule(
                line="^(mixdim jobs logs .*--follow)",
                why="it is followed until a step is done; a reader presses Ctrl-C",
                swap=r'\1 & until grep "^step" "$OUT" >&2; do sleep 0.5; done; kill $!',
            ),
            Rule(line="^mixdim jobs cancel", after='until_is cancelled "$JOB"'),
            Rule(
                line="^mixdim jobs retry",
                after='JOB=$(cat "$OUT"); until_is running "$JOB"; '
                'mixdim jobs cancel "$JOB"; until_is cancelled "$JOB"',
            ),
            Rule(
                line="^mixdim submit --print slurm",
                after='bash -n job.sh; grep "^#SBATCH --partition=gpu" job.sh',
            ),
            Rule(
                line="^mixdim submit --print torchrun",
                after='grep -q "torchrun --nnodes" "$OUT"',
            ),
            Rule(
                line="^torchx run .*local_cwd",
                after="test -s runs/a/result.json",
            ),
        ),
    ),
    "docs/docker.md": Scene(
        starts_with=("day_0.gz", "data", "sizing.json"),
        before="mkdir raw shared; mv day_0.gz raw; cp -r data sizing.json shared",
        rules=(
            Rule(
                line=" --nproc 8 --device cuda",
                why=NO_GPU,
                swap=" --nproc 2",
                before="rm -r volumes/runs/a",
            ),
            Rule(
                line=r"(docker run .* -v )/shared(.*)--nproc-per-node 8(.*) node0(.*)",
                why=f"{NO_GPU}; 'the same command on each', so twice",
                swap=r'one() { \1"$PWD"/shared\2--nproc-per-node 1\3 127.0.0.1\4; }; '
                r"one & one; wait $!",
                after="test -s shared/runs/a/result.json; "
                "grep '\"world_size\": 2' shared/runs/a/run.json",
            ),
        ),
    ),
    "docs/kubernetes.md": Scene(
        before='ln -s "$REPOSITORY/deploy" deploy',
        needs="kubectl",
        rules=(
            Rule(
                line=r"^kubectl apply -f train.yaml",
                after='grep -q "^  name: run-a-" train.yaml',
            ),
            Rule(line=r"^JOB=\$", after='grep -q "run-a-" <<<"$JOB"'),
        ),
    ),
    "docs/serve.md": Scene(
        starts_with=("day_0.gz", "data", "sizing.json", "runs/a", "artifacts/a"),
        rules=(
            Rule(
                line="^pip install",
                why="nothing is to change here: all that it needs is there",
                swap="cd $REPOSITORY; pip install --dry-run --no-build-isolation",
                after='cd; grep -x "Would install mixdim-[0-9.]*" "$OUT"',
            ),
            Rule(
                line="^mixdim serve --home HOME --port 8080",
                after='grep -qo "mixdim_[A-Za-z0-9_-]*" "$ERR"; cp -r runs artifacts HOME; '
                "cp -r data HOME/datasets/clicks-before; cp day_0.gz HOME/uploads; "
                "mkdir HOME/sizings/s; cp sizing.json HOME/sizings/s",
            ),
            Rule(
                line="^mixdim serve --home HOME$",
                why="PostgreSQL is what `make test-postgres` has",
                before="kill %1; wait %1 || true; unset MIXDIM_DATABASE",
            ),
            Rule(line="--name ann", after='SECRET=$(cat "$OUT"); grep -q ^mixdim_ "$OUT"'),
            Rule(line="^mixdim token list", after='grep -q ann "$OUT"'),
            Rule(
                line="0f3a5c7e9b1d2f40",
                why="the id of a token that is there",
                swap="$GONE",
                after='grep -q "is revoked" "$ERR"',
                before="mixdim token create --home HOME --name gone --role viewer; "
                "GONE=$(mixdim token list --home HOME | grep gone | grep -oE '[0-9a-f]{16}')",
            ),
            Rule(line=r"TOKEN=mixdim_\.\.\.", why="the secret", swap="TOKEN=$SECRET"),
            Rule(
                line="Idempotency-Key",
                after="ID=$(python -c 'import json, sys; print(json.load(sys.stdin)[\"id\"])' "
                '<"$OUT")',
            ),
            Rule(line="-X DELETE", after="ls HOME/uploads/day_0.gz"),
            Rule(line="/logs", after='grep -q "event: end" "$OUT"; ls HOME/datasets/clicks'),
            Rule(line="/metrics", after='grep -q items "$OUT"'),
            Rule(line="artifact.json", after="test -s artifact.json"),
            Rule(
                line="/cancel",
                why="the job above has ended: another one",
                before="ID=$(curl -s $URL/jobs -H 'Content-Type: application/json' "
                '-H "Authorization: Bearer $TOKEN" -d \'{"verb": "train", "preset": "deepfm", '
                '"data": "clicks", "sizing": "s", "options": {"epochs": 999}}\' | '
                "python -c 'import json, sys; print(json.load(sys.stdin)[\"id\"])')",
                after='grep -qE "cancel" "$OUT"',
            ),
        ),
    ),
    "docs/status-page.md": Scene(
        rules=(Rule(line="^mixdim token", after='grep -q ^mixdim_ "$OUT"'),)
    ),
}

SLURM = Scene(
    before="""
mixdim prepare synthetic --rows 3000 --raw day.gz --days 2
finished() {  # JOB: it has succeeded
  mixdim jobs logs "$1" --follow
  until mixdim jobs status "$1" --json | grep -E '"(succeeded|failed)"'; do sleep 0.5; done
  mixdim jobs status "$1" --json | grep --quiet '"succeeded"'
}
""",
    rules=(
        Rule(
            line="partition=(cpu|gpu)", why="what the partition is called", swap="partition=batch"
        ),
        Rule(line="time=600", why="the longest that the partition takes", swap="time=30"),
        Rule(
            line="--ranks-per-node 8 --host gpu-8",
            why=NO_GPU,
            swap="--ranks-per-node 1",
        ),
        Rule(line="--nproc_per_node 8 --host gpu-8", why=NO_GPU, swap="--nproc_per_node 1"),
        Rule(line="/shared", why="a folder that both nodes see", swap='"$HOME"/shared'),
        Rule(
            line="^mixdim submit .* prepare",
            after='finished "$(cat "$OUT")"; mixdim size data --dim 8 --output sizing.json',
        ),
        Rule(
            line="^mixdim submit .* train",
            after='finished "$(cat "$OUT")"; test -s runs/a/result.json',
        ),
        Rule(
            line="^torchx run",
            before="mkdir shared; cp -r data sizing.json shared",
            after="until test -s shared/runs/a/result.json; do sleep 1; done",
        ),
        Rule(
            line="^mixdim serve",
            after="""
SECRET=$(mixdim token create --home shared/mixdim --name ann --role submitter)
post() { curl -s http://127.0.0.1:8080/api/v1/jobs -H "Authorization: Bearer $SECRET" "$@"; }
post -H 'Content-Type: application/json' -d '{"verb": "prepare", "method": "synthetic",
  "output": "made", "scheduler": "slurm", "options": {"rows": 2000}}'
until post | grep -E '"state": ?"(succeeded|failed)"'; do sleep 1; done
test -s shared/mixdim/datasets/made/dataset.json
kill $!; wait $! || true
""",
        ),
    ),
)
"""What the pages type for Slurm, on the throw-away cluster of `tests.slurm`."""
