"""The fields of Prometheus' operator that our objects use, and their types; any other is a fault.

Its own definitions are not part of Kubernetes, so no validator that works offline knows them. Names
and types below were checked once against version 6.0.0 of @kubernetes-models/prometheus-operator.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

RELABELING: Final = {"sourceLabels": [str], "regex": str, "targetLabel": str, "replacement": str}
SELECTOR: Final = {"matchLabels": Mapping}
SPECS: Final[Mapping[str, Any]] = {
    "PodMonitor": {
        "selector": SELECTOR,
        "podMetricsEndpoints": [
            {"port": str, "interval": str, "honorLabels": bool, "relabelings": [RELABELING]}
        ],
    },
    "ServiceMonitor": {
        "selector": SELECTOR,
        "endpoints": [
            {
                **{"port": str, "path": str, "interval": str},
                "authorization": {"credentials": {"name": str, "key": str}},
                "relabelings": [RELABELING],
            }
        ],
    },
}
FORM: Final = {
    **{"apiVersion": str, "kind": str},
    "metadata": {"name": str, "labels": Mapping},
}


def monitor_faults(thing: Mapping[str, Any]) -> list[str]:
    """Fields of a PodMonitor or ServiceMonitor that do not exist, or have another type."""
    return list(_faults(thing, {**FORM, "spec": SPECS[thing["kind"]]}, thing["kind"]))


def _faults(value: Any, form: Any, place: str) -> Iterator[str]:
    if isinstance(form, type):
        if not isinstance(value, form):
            yield f"{place} is {value!r}, expected {form.__name__}"
    elif isinstance(form, list):
        for index, item in enumerate(value):
            yield from _faults(item, form[0], f"{place}[{index}]")
    else:
        for name, item in value.items():
            if name in form:
                yield from _faults(item, form[name], f"{place}.{name}")
            else:
                yield f"{place}.{name} is not known"
