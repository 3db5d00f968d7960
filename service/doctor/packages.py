"""Do the installed packages fit together, and which parts of MixDim do they serve?"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from types import MappingProxyType
from typing import Final, Literal

from packaging.requirements import Requirement

from service.doctor.findings import Finding, State

Role = Literal["train", "submit", "serve"]
"""What the machine is for: trainings, handing jobs to a scheduler, or the HTTP service."""

NEEDED: Final[Mapping[Role, tuple[str, ...]]] = MappingProxyType(
    {"train": ("cpu", "cuda"), "submit": ("submit",), "serve": ("service",)}
)
"""Extras that a role needs; of several, one."""
OLDEST_PYTHON: Final = (3, 11)
BACKENDS: Final = ("cpu", "cuda")
FBGEMM: Final = MappingProxyType({"fbgemm-gpu-cpu": "cpu", "fbgemm-gpu": "cuda"})
"""Which backend a build of FBGEMM is of; both own the module ``fbgemm_gpu``."""
SETUP: Final = "make clean setup BACKEND={}"


def look_at_packages(role: Role) -> Iterator[Finding]:
    """Python, what MixDim itself needs, torch with its companions, and every extra."""
    yield _python()
    own = _requirements()
    if own is None:
        yield Finding(
            area="packages",
            name="mixdim",
            state="wrong",
            value="not installed",
            advice="make setup, or pip install --no-deps --editable . in a checkout",
        )
        return
    yield _group("mixdim", own[""], is_needed=True, how="make setup")
    yield from _backend(own, is_needed=role == "train")
    for extra in own:
        if extra and extra not in BACKENDS:
            how = f"pip install 'mixdim[{extra}]'"
            yield _group(extra, own[extra], is_needed=extra in NEEDED[role], how=how)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    is_fine = sys.version_info >= OLDEST_PYTHON and sys.platform == "linux"
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        area="packages",
        name="python",
        state="ok" if is_fine else "wrong",
        value=f"{found} on {sys.platform}",
        advice="" if is_fine else f"take Python {oldest} or newer on Linux: make setup PYTHON=...",
    )


def _requirements() -> dict[str, list[Requirement]] | None:
    """What the installed MixDim asks for, by extra; under no name what it cannot do without."""
    try:
        lines = requires("mixdim") or []
    except PackageNotFoundError:
        return None
    by_extra: dict[str, list[Requirement]] = {"": []}
    for line in lines:
        requirement = Requirement(line)
        extra = re.search(r"""extra == ["']([\w-]+)["']""", str(requirement.marker or ""))
        by_extra.setdefault(extra[1] if extra else "", []).append(requirement)
    return by_extra


def _faults(requirements: Sequence[Requirement]) -> list[str]:
    """What is missing or has another version, in words."""
    faults = []
    for requirement in requirements:
        found = installed(requirement.name)
        if found is None:
            faults.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(found.partition("+")[0], prereleases=True):
            faults.append(f"{requirement.name} {found}, expected {requirement.specifier}")
    return faults


def _group(name: str, requirements: Sequence[Requirement], *, is_needed: bool, how: str) -> Finding:
    faults = _faults(requirements)
    bad: State = "wrong" if is_needed else "hint"
    names = ", ".join(f"{r.name} {installed(r.name)}" for r in requirements)
    return Finding(
        area="packages",
        name=name,
        state=bad if faults else "ok",
        value="; ".join(faults) or names,
        advice=how if faults else "",
    )


def _backend(own: Mapping[str, Sequence[Requirement]], *, is_needed: bool) -> Iterator[Finding]:
    """The builds of torch and FBGEMM, which have to be of one kind and of versions that fit."""
    bad: State = "wrong" if is_needed else "hint"
    there = [name for name in FBGEMM if installed(name)]
    torch = installed("torch")
    if torch is None or not there:
        missing = "torch" if torch is None else "fbgemm-gpu-cpu"
        value, advice = f"{missing} is missing", "make setup, or make setup BACKEND=cuda for GPUs"
        yield Finding(area="packages", name="training", state=bad, value=value, advice=advice)
        return
    if len(there) > 1:
        yield Finding(
            area="packages",
            name="training",
            state=bad,
            value="fbgemm-gpu and fbgemm-gpu-cpu are both installed, and own one module",
            advice=SETUP.format("cpu") + ", or BACKEND=cuda; never a plain pip install torchrec",
        )
        return
    backend = FBGEMM[there[0]]
    yield _group("training", own.get(backend, ()), is_needed=is_needed, how=SETUP.format(backend))
    if backend == "cuda" and torch.endswith("+cpu"):
        yield Finding(
            area="packages",
            name="torch",
            state=bad,
            value=f"torch {torch} is the CPU build, fbgemm-gpu the CUDA build",
            advice=f"{SETUP.format('cpu')}, or {SETUP.format('cuda')} without TORCH_INDEX",
        )


def installed(name: str) -> str | None:
    """Version of a package; None where it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
