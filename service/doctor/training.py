"""Whether torch, TorchRec and FBGEMM load, and what they see; asked in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from service.doctor.findings import Finding, State

PROBE: Final = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
import fbgemm_gpu, torchrec
table = torchrec.EmbeddingBagConfig(
    name="t", embedding_dim=4, num_embeddings=2, feature_names=["f"])
torchrec.EmbeddingBagCollection(tables=[table])
has_gpus = torch.cuda.is_available()
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
has_nccl = torch.distributed.is_nccl_available()
print(json.dumps({
    "cuda": torch.version.cuda,
    "gpus": [[gpu.name, gpu.total_memory] for gpu in gpus] if has_gpus else [],
    "nccl": ".".join(map(str, torch.cuda.nccl.version())) if has_nccl and has_gpus else None,
    "gloo": torch.distributed.is_gloo_available(),
    "bf16": bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()),
}))
"""
SECONDS: Final = 180


def look_at_training(*, has_driver: bool, is_needed: bool) -> Iterator[Finding]:
    """What a training would meet.

    Args:
        has_driver: Whether the machine has GPUs, whatever torch says.
        is_needed: Whether trainings are to run here.
    """
    bad: State = "wrong" if is_needed else "hint"
    seen = _probe()
    if isinstance(seen, str):
        advice = "make clean setup; on libtorch_cuda.so a plain pip install has brought the CUDA "
        advice += "build of fbgemm-gpu: docs/install.md"
        yield Finding(area="training", name="import", state=bad, value=seen, advice=advice)
        return
    yield Finding(
        area="training", name="import", state="ok", value="torch, torchrec and fbgemm_gpu load"
    )
    yield Finding(
        area="training",
        name="gloo",
        state="ok" if seen["gloo"] else bad,
        value="available" if seen["gloo"] else "torch was built without it",
        advice="" if seen["gloo"] else "ranks on CPUs need it: make clean setup",
    )
    yield from _devices(seen, has_driver=has_driver)


def _probe() -> dict[str, Any] | str:
    """What the libraries see, or why they do not load."""
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"did not load within {SECONDS} s"
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _devices(seen: dict[str, Any], *, has_driver: bool) -> Iterator[Finding]:
    if not seen["gpus"]:
        value = f"torch sees none (CUDA {seen['cuda'] or 'not built in'})"
        yield Finding(
            area="training",
            name="CUDA",
            state="hint" if has_driver else "ok",
            value=value,
            advice="the machine has GPUs: make clean setup BACKEND=cuda, or mend the driver"
            if has_driver
            else "",
        )
        return
    gpus = ", ".join(f"{name} ({memory / 2**30:.0f} GiB)" for name, memory in seen["gpus"])
    yield Finding(area="training", name="CUDA", state="ok", value=f"{seen['cuda']}: {gpus}")
    yield Finding(
        area="training",
        name="NCCL",
        state="ok" if seen["nccl"] else "hint",
        value=seen["nccl"] or "torch was built without it",
        advice="" if seen["nccl"] else "several GPUs need it: make clean setup BACKEND=cuda",
    )
