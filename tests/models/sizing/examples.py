"""Fields and golden values that the tests of sizing share."""

import json
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from models.sizing import SIZING, Sizing, Spectral
from models.tables import FieldStats

GOLDEN: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "golden" / "sizing.json").read_text()
)
CRITEO_ROWS: Final[list[int]] = GOLDEN["mde_criteo_kaggle_d0"]["cardinalities"]


def field(name: str, num_embeddings: int, num_lookups: int = 1_000_000) -> FieldStats:
    """A field with one id an example."""
    return FieldStats(name=name, num_embeddings=num_embeddings, num_lookups=num_lookups)


def fields_with(rows: list[int]) -> list[FieldStats]:
    """Fields that are looked up equally often."""
    return [field(f"C{index}", num_embeddings) for index, num_embeddings in enumerate(rows, 1)]


FIELDS: Final = st.lists(
    st.tuples(st.integers(1, 5_000), st.integers(1, 1_000_000)), min_size=1, max_size=12
).map(lambda sizes: [field(f"C{i}", rows, lookups) for i, (rows, lookups) in enumerate(sizes)])
"""Any fields."""

SPECTRAL: Final = Spectral(
    spectra={f"C{i}": [2.0**-k for k in range(1 + 7 * i % 11)] for i in range(27)}
)
"""Fields that need 1 to 11 directions."""
SCHEMES: Final[list[Sizing]] = [
    SPECTRAL if kind is Spectral else kind() for kind in SIZING.values()
]
"""One of every registered scheme; the spectral one knows the fields of these examples."""
