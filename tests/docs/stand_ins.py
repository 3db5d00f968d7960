"""What is typed for Docker and Kubernetes, without an engine and without an API server.

``docker run`` runs the command behind the image on this machine, its mounts being folders.
``kubectl`` keeps what is applied in a file, after every field of it has been checked: names,
namespaces and labels of later commands have to be those of real objects. What is to run in a pod
runs here.

    python -m tests.docs.stand_ins docker run --rm -v runs:/runs mixdim mixdim size /runs/data
    python -m tests.docs.stand_ins kubectl apply -f train.yaml
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.deploy.monitors import SPECS, monitor_faults

NEWEST = "1.37"
KUBECTL = str(shutil.which("kubectl", path=os.pathsep.join(os.get_exec_path()[1:])))
"""The real one; the first folder of the path has the one that stands in for it."""
APPLIED = Path.home() / ".applied.json"
KINDS = {"job": "Job", "svc": "Service", "service": "Service", "deployment": "Deployment"} | {
    **{"networkpolicy": "NetworkPolicy", "poddisruptionbudget": "PodDisruptionBudget"},
    **{"podmonitor": "PodMonitor", "namespace": "Namespace"},
}
HOME_OF_SERVICE = {"/var/lib/mixdim": str(Path.home() / "volumes" / "home")}


def docker(words: Sequence[str]) -> int:
    """``run``, and ``compose exec`` of the service."""
    if words[0] == "compose":
        return _here(words[words.index("exec") + 2 :], HOME_OF_SERVICE)
    parser = argparse.ArgumentParser("docker run", allow_abbrev=False)
    for flag in ("--rm", "--read-only", "--init"):
        parser.add_argument(flag, action="store_true")
    for flag in ("--tmpfs", "--shm-size", "--ulimit", "--gpus", "--network"):
        parser.add_argument(flag)
    parser.add_argument("-v", action="append", default=[])
    parser.add_argument("image", choices=["mixdim", "mixdim:cuda"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(words[1:])
    return _here(asked.command, dict(_mount(text) for text in asked.v))


def _mount(text: str) -> tuple[str, str]:
    source, target = text.split(":")[:2]
    if not source.startswith("/"):  # a volume, which Docker makes where it is missing
        source = str(Path.home() / "volumes" / source)
        Path(source).mkdir(parents=True, exist_ok=True)
    assert Path(source).exists(), f"{source} is not there: Docker would mount an empty folder"
    return target, source


def _here(command: Sequence[str], mounts: Mapping[str, str]) -> int:
    """Run a command of a container with its mounts' folders."""
    words = list(command)
    for target, source in mounts.items():
        words = [
            source + word.removeprefix(target)
            if word == target or word.startswith(f"{target}/")
            else word
            for word in words
        ]
    return subprocess.run(words).returncode


def kubectl(words: Sequence[str]) -> int:
    """What is typed for a cluster."""
    parser = argparse.ArgumentParser("kubectl", allow_abbrev=False)
    for flags in (("-f", "--filename"), ("-k",), ("-l", "--selector"), ("--output",)):
        parser.add_argument(*flags)
    for flag in ("--namespace", "--type", "--patch", "--for", "--timeout", "--sort-by"):
        parser.add_argument(flag)
    for flag in ("--follow", "--all-pods", "--prefix"):
        parser.add_argument(flag, action="store_true")
    verb, *rest = words
    if verb == "kustomize":
        return subprocess.run([KUBECTL, *words]).returncode
    if verb == "create":
        made = _by_kubectl(*words, "--dry-run=client", "--output=yaml")
        _write([*_read(), yaml.safe_load(made)])
        _say(made)
        return 0
    if verb == "exec":
        split = rest.index("--")
        _named(parser.parse_known_args(rest[:split]))
        return _here(rest[split + 1 :], HOME_OF_SERVICE)
    asked, names = parser.parse_known_args(rest)
    return VERBS[verb](asked, names)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


Asked = argparse.Namespace


def _apply(asked: Asked, names: Sequence[str]) -> int:
    text = Path(asked.filename).read_text() if asked.filename else _by_kubectl("kustomize", asked.k)
    for thing in yaml.safe_load_all(text):
        if thing["kind"] in SPECS:
            assert monitor_faults(thing) == []
        else:
            kubernetes_validate.validate(thing, NEWEST, strict=True)
        if asked.namespace:
            thing["metadata"].setdefault("namespace", asked.namespace)
        _write([*_read(), thing])
        _say(f"{thing['kind'].lower()}/{thing['metadata']['name']} created")
    return 0


def _by_kubectl(*words: str) -> str:
    """What the real one does without a server."""
    done = subprocess.run([KUBECTL, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _get(asked: Asked, names: Sequence[str]) -> int:
    for thing in _selected(asked, names[0]):
        _say(f"{thing['kind'].lower()}.batch/{thing['metadata']['name']}")
    return 0


def _patch(asked: Asked, names: Sequence[str]) -> int:
    return _changed((asked, names), "patch", "--type", asked.type, "--patch", asked.patch)


def _label(asked: Asked, names: Sequence[str]) -> int:
    kind, name, *labels = names
    return _changed((asked, [f"{kind}/{name}"]), "label", *labels)


def _changed(typed: tuple[Asked, Sequence[str]], verb: str, *change: str) -> int:
    file = Path.home() / ".changed.json"
    file.write_text(json.dumps(_named(typed)))
    _say(_by_kubectl(verb, "--local", "-f", str(file), "--output=yaml", *change))
    return 0


def _delete(asked: Asked, names: Sequence[str]) -> int:
    gone = _selected(asked, names[0])
    kinds = {thing["kind"] for thing in gone}
    assert kinds == {KINDS[kind] for kind in names[0].split(",")}, f"only {kinds} would go"
    left = [thing for thing in _read() if thing not in gone]
    assert not [thing for thing in left if thing["metadata"]["name"] in _names(gone)]
    _write(left)
    _say(" ".join(sorted(_names(gone))))
    return 0


def _look(asked: Asked, names: Sequence[str]) -> int:
    """Logs, waiting, a port: what is named has to be there."""
    found = _selected(asked, names[0]) if asked.selector else [_named((asked, names))]
    _say(" ".join(sorted(_names(found))))
    return 0


def _names(things: Sequence[Mapping[str, Any]]) -> set[str]:
    return {str(thing["metadata"]["name"]) for thing in things}


def _named(typed: tuple[Asked, Sequence[str]]) -> dict[str, Any]:
    asked, names = typed
    kind, _, name = names[0].partition("/")
    (found,) = [
        thing
        for thing in _read()
        if (thing["kind"], thing["metadata"]["name"]) == (KINDS[kind.partition(".")[0]], name)
        and thing["metadata"].get("namespace") == asked.namespace
    ]
    return dict(found)


def _selected(asked: Asked, kinds: str) -> list[dict[str, Any]]:
    wanted = dict(pair.split("=") for pair in asked.selector.split(","))
    found = [
        thing
        for thing in _read()
        if thing["kind"] in {KINDS[kind] for kind in kinds.split(",")}
        and wanted.items() <= thing["metadata"].get("labels", {}).items()
    ]
    assert found, f"nothing of {kinds} has the labels {asked.selector}"
    return found


def _read() -> list[dict[str, Any]]:
    return list(json.loads(APPLIED.read_text())) if APPLIED.exists() else []


def _write(things: Sequence[Mapping[str, Any]]) -> None:
    APPLIED.write_text(json.dumps(things, default=str))


VERBS: Mapping[str, Callable[[Asked, Sequence[str]], int]] = {
    **{"apply": _apply, "get": _get, "patch": _patch, "label": _label, "delete": _delete},
    **dict.fromkeys(("logs", "wait", "port-forward"), _look),
}

if __name__ == "__main__":
    sys.exit({"docker": docker, "kubectl": kubectl}[sys.argv[1]](sys.argv[2:]))
