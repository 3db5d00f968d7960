"""Checkpoints: what is stored, how it is written, and how it is read by other ranks."""

from service.checkpoint.choice import best_checkpoint, examined, last_checkpoint
from service.checkpoint.folder import Checkpoints
from service.checkpoint.progress import Progress, read_progress
from service.checkpoint.stored import StoredTensors

__all__ = [
    "Checkpoints",
    "Progress",
    "StoredTensors",
    "best_checkpoint",
    "examined",
    "last_checkpoint",
    "read_progress",
]
