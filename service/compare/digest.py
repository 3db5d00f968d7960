"""What makes two runs the same: a hash of everything that decides a result."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from service.adapters import adapter_of
from service.config import TrainConfig
from service.search.config import SearchConfig
from service.sizing import SizingFile
from service.sizing_request import SizingRequest

WITHOUT_EFFECT: Final = frozenset(
    {
        *("data", "sizing", "output", "plan", "nproc", "resume", "overwrite", "keep_checkpoints"),
        *("checkpoint_every", "log_every", "log_to", "metrics_port", "metrics_host", "matmul"),
    }
)
"""Settings of a training that do not change its result, or are hashed by content."""
LATER: Final[Mapping[str, Any]] = MappingProxyType({"global_batch_size": 0})
"""Settings that came later: with such a value, runs are what they were without them."""


def digest_of(
    dataset: str,
    sizing: SizingFile | SizingRequest | SearchConfig,
    config: TrainConfig,
    slices: Sequence[str],
    warm_ups: Mapping[Path, str],
) -> str:
    """Hash of a run.

    Args:
        dataset: Hash of the data.
        sizing: The plan; or what is asked, where the plan is not known before something was
            trained.
        config: The training, with its seed.
        slices: Fields that are scored by frequency.
        warm_ups: What stands for the folders of warm-ups, whose paths decide nothing.
    """
    settings = adapter_of(TrainConfig).dump_python(config, mode="json")
    deciding = {
        "dataset": dataset,
        "plan": _deciding(sizing),
        "training": {
            key: value
            for key, value in settings.items()
            if key not in WITHOUT_EFFECT and (key not in LATER or value != LATER[key])
        },
        "slices": sorted(slices),
    }
    text = json.dumps(deciding, sort_keys=True, separators=(",", ":"), default=str)
    for folder, name in warm_ups.items():
        text = text.replace(json.dumps(str(folder)), json.dumps(name))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _deciding(sizing: SizingFile | SizingRequest | SearchConfig) -> dict[str, Any]:
    if isinstance(sizing, SearchConfig):
        return {key: value for key, value in sizing.asked.items() if key != "train"}
    if isinstance(sizing, SizingRequest):
        return asdict(sizing)
    plan = adapter_of(SizingFile).dump_python(sizing, mode="json")
    blocks = {
        name: [{k: v for k, v in block.items() if k != "asked_dim"} for block in of_field]
        for name, of_field in plan["fields"].items()
    }
    return {"out_dim": plan["out_dim"], "fields": blocks}
