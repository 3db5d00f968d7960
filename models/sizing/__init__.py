"""How wide every table is: schemes, the byte budget and what a plan costs.

Add a scheme: one file with one frozen dataclass, one name in `Sizing`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, get_args

from models.sizing.base import SizingScheme
from models.sizing.blocks import equipartition, size_in_blocks
from models.sizing.budget import (
    PlanBytes,
    TableBytes,
    parse_budget,
    plan_bytes,
    table_bytes,
    uniform_bytes,
)
from models.sizing.by_hand import ByHand
from models.sizing.exact import Values
from models.sizing.fastai import FastaiRule
from models.sizing.fit import Fit, Solver, best_fit
from models.sizing.hash_rows import HashRows
from models.sizing.popularity import PopularityRule
from models.sizing.serving import BudgetFor, RowAlignment, Serving, ServingDtype
from models.sizing.spectral import Spectral
from models.sizing.uniform import Uniform

Sizing = Uniform | FastaiRule | PopularityRule | ByHand | HashRows | Spectral

SIZING: Final[Mapping[str, type[Sizing]]] = MappingProxyType(
    {scheme.__dataclass_fields__["kind"].default: scheme for scheme in get_args(Sizing)}
)
"""Every scheme by the name it has on the command line."""

__all__ = [
    "SIZING",
    "BudgetFor",
    "ByHand",
    "FastaiRule",
    "Fit",
    "HashRows",
    "PlanBytes",
    "PopularityRule",
    "RowAlignment",
    "Serving",
    "ServingDtype",
    "Sizing",
    "SizingScheme",
    "Solver",
    "Spectral",
    "TableBytes",
    "Uniform",
    "Values",
    "best_fit",
    "equipartition",
    "parse_budget",
    "plan_bytes",
    "size_in_blocks",
    "table_bytes",
    "uniform_bytes",
]
