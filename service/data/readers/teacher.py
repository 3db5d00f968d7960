"""Synthetic click logs from a planted teacher: what an ideal model could know is written down.

Every field has a latent vector per value that spans only ``rank`` dimensions: a field of rank 0 is
noise, one of rank 1 needs a width of 1, and so on. The click's logit is a factorisation machine
over these vectors plus linear terms of some dense columns. Values are drawn from a Zipf-like law.
Latent vectors come from hashes of the values, so nothing has to be kept, at any cardinality.
"""

# Shapes:  B rows, K latent dimensions, r rank of a field

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.data.ingest.hashing import splitmix64
from service.data.readers.criteo import DENSE, FIELDS

CARDINALITIES: Final = (
    *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194),
    *(27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572),
)
"""Distinct values of the fields of Criteo's Kaggle log, the size that ``scale`` 1 stands for."""

RANKS: Final = (4, 8, 2, 0, 1, 1, 4, 0, 1, 2, 8, 0, 1, 2, 0, 1, 2, 4, 8, 1, 0, 0, 1, 1, 4, 0)
"""Planted rank of every field: noise, narrow and wide ones among the small and the large."""

MISSING_RATIOS: Final = MappingProxyType(
    {"C3": 0.03, "C4": 0.03, "C6": 0.12, "C12": 0.03, "C16": 0.03, "C19": 0.44, "C20": 0.44}
    | {"C21": 0.03, "C22": 0.76, "C24": 0.03, "C25": 0.44, "C26": 0.44}
    | {"I1": 0.45, "I3": 0.21, "I4": 0.22, "I6": 0.22, "I7": 0.04, "I10": 0.45, "I12": 0.76}
)
DENSE_WEIGHTS: Final = MappingProxyType({"I1": 0.8, "I2": -0.5, "I5": 0.3, "I7": 0.5, "I11": -0.4})
"""Weight of the standardised logarithm of a dense column; the others are noise."""

LATENT_DIM: Final = 8
SMALLEST: Final = 16
"""Scaling leaves a field at least this many values, so that it can still span its rank."""
TABLE_VALUES: Final = 1 << 17
"""Fields of up to this many values have their vectors in a table instead of hashing each row."""
CHUNK_ROWS: Final = 1 << 15
"""Rows that are drawn together; chunk ``i`` is the same whatever else is drawn."""
EXPONENTS: Final = (1.05, 1.35)
"""Range of the exponents of the fields' Zipf-like laws."""
LOGIT_STD: Final = 2.0
POSITIVE_RATIO: Final = 0.26
CALIBRATION_ROWS: Final = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """Rows of one chunk before they are text."""

    labels: NDArray[np.int8]
    logits: NDArray[np.float64]
    dense: NDArray[np.int64]
    """``(B, 13)``"""
    dense_missing: NDArray[np.bool_]
    """``(B, 13)``"""
    values: NDArray[np.int64]
    """``(26, B)``: number of the value, most frequent first; the cardinality where missing."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Draws rows and labels them."""

    seed: int
    scale: float

    @property
    def cardinalities(self) -> list[int]:
        """Values of every field."""
        return [max(min(size, SMALLEST), round(size * self.scale)) for size in CARDINALITIES]

    def draw(self, chunk: int) -> Draw:
        """Draw a chunk of rows."""
        return self._label(*self._draw_inputs(chunk), chunk)

    def hashed(self, field: int, values: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Name of every value, as 32 bits: different for different values of a field."""
        salt = splitmix64(np.array([self.seed * 64 + field], dtype=np.uint64))
        return _scramble32(values.astype(np.uint32) ^ salt.astype(np.uint32))

    def _draw_inputs(
        self, chunk: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        rng = np.random.Generator(np.random.SFC64([self.seed, 1, chunk]))
        normal = rng.standard_normal((CHUNK_ROWS, len(DENSE)))
        dense = np.floor(np.exp(self._dense_mean + self._dense_std * normal)).astype(np.int64)
        dense[:, 1] -= 3  # the real I2 has negatives down to -3
        ratios = np.array([MISSING_RATIOS.get(name, 0.0) for name in DENSE])
        dense_missing = rng.random(dense.shape, dtype=np.float32) < ratios
        values = np.empty((len(FIELDS), CHUNK_ROWS), dtype=np.int64)
        for field, (name, size) in enumerate(zip(FIELDS, self.cardinalities, strict=True)):
            values[field] = _zipf(rng.random(CHUNK_ROWS), size, self._exponents[field])
            if ratio := MISSING_RATIOS.get(name):
                values[field][rng.random(CHUNK_ROWS, dtype=np.float32) < ratio] = size
        return dense, dense_missing, values

    def _label(
        self,
        dense: NDArray[np.int64],
        dense_missing: NDArray[np.bool_],
        values: NDArray[np.int64],
        chunk: int,
    ) -> Draw:
        scale, bias = self._calibration
        logits = scale * self._score(dense, dense_missing, values) + bias
        rng = np.random.Generator(np.random.SFC64([self.seed, 2, chunk]))
        labels = (rng.random(len(logits)) < _sigmoid(logits)).astype(np.int8)
        return Draw(
            labels=labels,
            logits=logits,
            dense=dense,
            dense_missing=dense_missing,
            values=values,
        )

    def _score(
        self,
        dense: NDArray[np.int64],
        dense_missing: NDArray[np.bool_],
        values: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Uncalibrated logit: linear terms, and products of all pairs of latent vectors."""
        weights = np.array([DENSE_WEIGHTS.get(name, 0.0) for name in DENSE])
        logs = (np.log1p(np.maximum(dense, 0)) - self._dense_mean) / self._dense_std
        linear: NDArray[np.float64] = np.where(dense_missing, 0.0, logs) @ weights
        total = np.zeros((dense.shape[0], LATENT_DIM))
        squares = np.zeros(dense.shape[0])
        for field, rank in enumerate(RANKS):
            if rank == 0:
                continue
            if self.cardinalities[field] <= TABLE_VALUES:
                vectors = self._tables[field][values[field]]  # (B, K + 1)
            else:
                vectors = self._vectors(field, values[field])
            linear += 0.35 * vectors[:, LATENT_DIM]
            total += vectors[:, :LATENT_DIM]
            squares += np.square(vectors[:, :LATENT_DIM]).sum(axis=1)
        linear += 0.1 * (np.square(total).sum(axis=1) - squares)  # 0.2 times the sum over pairs
        return linear

    @cached_property
    def _tables(self) -> dict[int, NDArray[np.float64]]:
        """Vectors of all values of the smaller fields, the missing one included."""
        return {
            field: self._vectors(field, np.arange(size + 1))
            for field, size in enumerate(self.cardinalities)
            if size <= TABLE_VALUES
        }

    def _vectors(self, field: int, values: NDArray[np.int64]) -> NDArray[np.float64]:
        """Latent vectors, and behind them the coordinate of the linear term ``(B, K + 1)``."""
        latent = self._latent(field, values, RANKS[field])  # (B, r)
        vectors = latent @ self._bases[field] / np.sqrt(max(RANKS[field], 1))
        linear = latent[:, :1] if RANKS[field] else np.zeros((len(values), 1))
        return np.concatenate([vectors, linear], axis=1)

    def _latent(self, field: int, values: NDArray[np.int64], rank: int) -> NDArray[np.float64]:
        """Latent coordinates of values, nearly normal: four uniforms from the bits of one hash."""
        start = np.uint64((self.seed * 64 + field) * LATENT_DIM)
        state = splitmix64(np.array([start]))[0] ^ (values.astype(np.uint64) << np.uint64(4))
        latent = np.empty((len(values), rank))
        for axis in range(rank):
            quarters = splitmix64(state + np.uint64(axis)).view(np.uint16).reshape(-1, 4)
            # Four uniforms on [0, 65535] have mean 131070 together and deviation 37837.
            latent[:, axis] = (quarters.sum(axis=1, dtype=np.float64) - 131070.0) / 37837.2
        return latent

    @cached_property
    def _exponents(self) -> NDArray[np.float64]:
        rng = np.random.Generator(np.random.SFC64([self.seed, 3]))
        return rng.uniform(*EXPONENTS, len(FIELDS))

    @cached_property
    def _dense_mean(self) -> NDArray[np.float64]:
        return np.linspace(0.5, 4.0, len(DENSE))

    @cached_property
    def _dense_std(self) -> NDArray[np.float64]:
        return np.linspace(0.8, 1.6, len(DENSE))

    @cached_property
    def _bases(self) -> list[NDArray[np.float64]]:
        """Orthonormal directions ``(r, K)`` that a field's vectors span."""
        rng = np.random.Generator(np.random.SFC64([self.seed, 4]))
        return [
            np.linalg.qr(rng.standard_normal((LATENT_DIM, LATENT_DIM)))[0][:rank] for rank in RANKS
        ]

    @cached_property
    def _calibration(self) -> tuple[float, float]:
        """Scale and bias that give the logits their spread and the clicks their share."""
        chunks = range(CALIBRATION_ROWS // CHUNK_ROWS)
        scores = np.concatenate([self._score(*self._draw_inputs(chunk)) for chunk in chunks])
        scale = LOGIT_STD / float(scores.std())
        low, high = -100.0, 100.0
        for _ in range(60):
            bias = (low + high) / 2
            if _sigmoid(scale * scores + bias).mean() < POSITIVE_RATIO:
                low = bias
            else:
                high = bias
        return scale, bias


def _zipf(uniform: NDArray[np.float64], size: int, exponent: float) -> NDArray[np.int64]:
    """Numbers in [0, size) whose frequency falls like a power: a continuous law, rounded down."""
    slope = 1.0 - exponent
    span = (size + 1.0) ** slope - 1.0
    drawn: NDArray[np.int64] = ((uniform * span + 1.0) ** (1.0 / slope)).astype(np.int64)
    return np.clip(drawn - 1, 0, size - 1)


def _scramble32(numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Mix 32 bits, one to one (the finalizer of MurmurHash3)."""
    mixed = numbers.copy()
    mixed ^= mixed >> np.uint32(16)
    mixed *= np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-logits))
