"""``python -m deploy.kubernetes``: the training of ``training/base``, to change and to keep."""

import sys
from typing import Any

from deploy.kubernetes.manifest import manifest, to_yaml
from deploy.resources import find_resource

ABOUT = "# Made by `python -m deploy.kubernetes`; overlays change it: docs/kubernetes.md.\n"
COMMAND = (
    *("train", "dlrm", "--data", "/shared/data", "--sizing", "/shared/sizing.json"),
    *("--output", "/shared/runs/mixdim-train", "--metrics-port", "9400"),
)


def example() -> list[dict[str, Any]]:
    """A training on two nodes, two ranks each, of a dataset in the claim ``mixdim``."""
    return manifest(
        COMMAND,
        name="mixdim-train",
        resource=find_resource("cpu-small"),
        nodes=2,
        ranks_per_node=2,
        max_retries=3,
    )


if __name__ == "__main__":
    sys.stdout.write(ABOUT + to_yaml(example()))
