"""State of the random generators of a rank: torch's, CUDA's, numpy's and Python's."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from service.checkpoint.stored import StoredTensors

RandomState = dict[str, Tensor]


def random_state() -> RandomState:
    """As bytes, which a checkpoint stores like any tensor."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "numpy": _to_bytes([kind, np.asarray(keys).tolist(), *rest]),
        "python": _to_bytes(random.getstate()),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: RandomState) -> None:
    """Go on as the generators would have."""
    torch.set_rng_state(state["torch"])
    kind, keys, *rest = json.loads(bytes(state["numpy"].tolist()))
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, internal, gauss = json.loads(bytes(state["python"].tolist()))
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def stored_random_state(path: Path, rank: int) -> RandomState:
    """Of a rank, as a checkpoint has it."""
    stored = StoredTensors(path)
    prefix = f"random.{rank}."
    return {
        name.removeprefix(prefix): torch.from_numpy(stored.read(name))
        for name in stored.shapes
        if name.startswith(prefix)
    }


def _to_bytes(value: object) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
