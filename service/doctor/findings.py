"""What a look at the machine has found."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "hint", "wrong"]
"""Fine; fine for most, or missing where it is a matter of choice; to be mended first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    area: str
    """Group that it is shown in."""
    name: str
    state: State
    value: str
    """What is there."""
    advice: str = ""
    """What to do about it; none where it is fine."""
