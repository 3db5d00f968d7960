"""The command as a user meets it: output, exit codes, and nothing half-written."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.__main__ import main

ROOT = Path(__file__).parents[2]
LINE = "\t".join(["{label}", *["1"] * 13, *["68fd1e64"] * 26]) + "\n"


def lines(number: int, bad: int = 0) -> str:
    good = [LINE.format(label=i % 2) for i in range(number)]
    return "".join(["not a line\n"] * bad + good)


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", "prepare", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "log.tsv"
    path.parent.mkdir()
    path.write_text(lines(1000))
    return path


def test_the_summary_adds_up_on_stdout(log, tmp_path, capsys):
    assert main(["prepare", "criteo", str(log), "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "1,000 lines = 1,000 rows + 0 rejects" in shown.out
    assert "C26" in shown.out and "pass 2/2" in shown.err


def test_json_is_the_description_of_the_dataset(log, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["prepare", "criteo", str(log), "--output", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "dataset.json").read_text())
    assert printed["num_rows"] == 1000


def test_raw_text_is_made_for_any_reader(tmp_path, capsys):
    raw = tmp_path / "day.tsv.gz"
    arguments = ["--rows", "1000", "--raw", str(raw), "--days", "2", "--seed", "7"]
    assert main(["prepare", "synthetic", *arguments]) == 0
    days = capsys.readouterr().out.split()
    assert [Path(day).name for day in days] == ["day_0.tsv.gz", "day_1.tsv.gz"]
    assert json.loads((tmp_path / "day.tsv.gz.teacher.json").read_text())["seed"] == 7
    assert main(["prepare", "criteo", *days, "--output", str(tmp_path / "out")]) == 0
    assert main(["prepare", "synthetic", *arguments]) == 2
    assert "exists; choose another --raw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (None, [], "does not exist; check the input path"),
        ("", [], "the input has no data lines"),
        (lines(1000).replace("0\t1", "1\t1"), [], r"training rows have label 1"),
        (
            lines(1000, bad=2),
            [],
            "2 of 1,002 lines in all are malformed (0.1996%), expected at most 0.1%",
        ),
        (lines(1000, bad=2), [], "line 1: 1 columns, expected 40"),
        (lines(10, bad=2000), [], "--max-reject-ratio"),
        (lines(2), ["--fractions", "0.01", "0.0", "0.99"], "none of the 2 rows"),
        (lines(1000), ["--split", "time"], "criteo data has no time column"),
    ],
)
def test_what_cannot_be_prepared_is_said_in_one_line(tmp_path, capsys, text, arguments, message):
    log = tmp_path / "log.tsv"
    if text is not None:
        log.write_text(text)
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "out"
    assert main(["prepare", "criteo", str(log), "--output", str(out), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mixdim prepare: error: ") and message in error
    assert sorted(tmp_path.iterdir()) == before


def test_bearable_rejects_are_listed_with_file_line_and_reason(tmp_path, capsys):
    log, out = tmp_path / "log.tsv", tmp_path / "out"
    log.write_text(lines(3) + LINE.replace("\t1", "\tx\ty", 1).format(label=1) + lines(2000))
    assert main(["prepare", "criteo", str(log), "--output", str(out)]) == 0
    assert "2,004 lines = 2,003 rows + 1 rejects" in capsys.readouterr().out
    (header, reject) = (out / "rejects.tsv").read_text().splitlines()
    assert header.split("\t") == ["file", "line", "reason", "start of the line"]
    assert reject.split("\t")[:3] == [str(log), "4", "41 columns, expected 40"]
    assert reject.split("\t")[3].startswith("1\\tx\\ty\\t1")


def test_an_output_that_exists_is_kept_unless_told_otherwise(log, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["prepare", "criteo", str(log), "--output", str(out)]
    assert main(arguments) == 0
    first = (out / "dataset.json").read_bytes()
    assert main([*arguments, "--min-count", "5"]) == 2
    assert "exists; choose another --output or add --overwrite" in capsys.readouterr().err
    assert (out / "dataset.json").read_bytes() == first
    assert main([*arguments, "--min-count", "5", "--overwrite"]) == 0
    assert json.loads((out / "dataset.json").read_text())["provenance"]["options"]["min_count"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_folder_that_is_no_dataset_is_never_overwritten(log, tmp_path, capsys):
    arguments = ["prepare", "criteo", str(log), "--output", str(log.parent), "--overwrite"]
    assert main(arguments) == 2
    assert "is not a dataset" in capsys.readouterr().err
    assert log.exists()


def test_a_folder_that_cannot_be_made_is_named(log, tmp_path, capsys):
    out = log / "out"
    assert main(["prepare", "criteo", str(log), "--output", str(out)]) == 2
    assert "out cannot be written: " in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(log, tmp_path):
    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = command("criteo", log, "--output", tmp_path / "out", preexec_fn=limit_files)
    assert done.returncode == 2
    assert "out cannot be written: File too large" in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_job_leaves_nothing_that_looks_finished(tmp_path, sent, code):
    arguments = ["synthetic", "--rows", "3000000", "--output", str(tmp_path / "out")]
    job = subprocess.Popen(
        [sys.executable, "-m", "service", "prepare", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob("out.partial-*/rejects.tsv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(sent)
    assert job.wait(60) == code
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("**/dataset.json"))
    if sent == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


SLOW_TO_LOAD = {"torch", "torchrec", "fbgemm_gpu", "torchx", "matplotlib", "fastapi", "sqlalchemy"}


def test_help_loads_nothing_that_takes_seconds():
    code = (
        "import sys\nfrom service.__main__ import main\n"
        "try:\n    main(['prepare', 'criteo', '--help'])\n"
        f"except SystemExit:\n    print('loaded', {SLOW_TO_LOAD} & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "loaded set()"
    assert "--min-count" in done.stdout


def test_an_impossible_option_is_refused():
    done = command("criteo", "x.tsv", "--min-count", "0")
    assert done.returncode == 2 and "min_count=0, expected at least 1" in done.stderr


def test_an_unknown_flag_is_refused():
    done = command("criteo", "x.tsv", "--min-counts", "3")
    assert done.returncode == 2 and "--min-count" in done.stderr
