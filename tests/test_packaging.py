"""The wheel, installed where nothing of the repository is in reach."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "service" / "api" / "page"
DASHBOARDS = ("embeddings", "jobs", "sharding", "training")
PACKAGES = ("models", "sharding", "service", "deploy")
SETTINGS: Mapping[str, str] = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))
}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=SETTINGS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy, for setuptools would take leftovers of older builds from `build/`."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = ("wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist")
    run(sys.executable, "-m", "pip", *built, cwd=source)
    (path,) = (source / "dist").glob("mixdim-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of commands of an environment that holds the wheel and sees our dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    commands = folder / "bin"
    install = ("install", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", "--python", commands / "python", *install, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file brings the dependencies, yet not our own editable install.
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    return commands


@pytest.fixture(scope="module")
def project() -> dict[str, str]:
    metadata: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return metadata


def test_the_wheel_holds_every_source_file(wheel: Path) -> None:
    sources = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*.py")
    }
    assert len(sources) > 40
    assert sources - set(zipfile.ZipFile(wheel).namelist()) == set()


@pytest.mark.parametrize(
    "name",
    [
        *(f"{package}/py.typed" for package in PACKAGES),
        *(f"deploy/grafana/dashboards/{name}.json" for name in DASHBOARDS),
        "deploy/grafana/provisioning/datasources/prometheus.yml",
        "deploy/grafana/provisioning/dashboards/mixdim.yml",
        "deploy/prometheus/prometheus.yml",
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/rules.yml",
        *(path.relative_to(ROOT).as_posix() for path in PAGE.rglob("*.*")),
    ],
)
def test_the_wheel_holds_what_is_not_code(wheel: Path, name: str) -> None:
    assert zipfile.ZipFile(wheel).read(name) == (ROOT / name).read_bytes()


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == set(PACKAGES)


def test_the_command_works_from_an_empty_folder(
    environment: Path, tmp_path: Path, project: dict[str, str]
) -> None:
    assert (
        run(environment / "mixdim", "--version", cwd=tmp_path) == f"mixdim {project['version']}\n"
    )
    assert "usage: mixdim VERB" in run(environment / "mixdim", "--help", cwd=tmp_path)


def test_the_command_runs_the_installed_files(environment: Path, tmp_path: Path) -> None:
    code = "import service; print(service.__file__)"
    file = Path(run(environment / "python", "-c", code, cwd=tmp_path).strip())
    assert file.is_relative_to(environment.parent)
