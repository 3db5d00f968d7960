"""The choice of a network and its layer sizes, readable without torch.

Add a model: one file with a `CtrModel`, one dataclass here, one name in `Network`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Literal, get_args

from pydantic import ConfigDict

from models.tables import Join

if TYPE_CHECKING:
    from models.base import CtrModel
    from models.embeddings.base import FieldEmbeddings

_STRICT = ConfigDict(extra="forbid")

Widening = Literal["project", "pad"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DLRMNetwork:
    """Deep learning recommendation model: pairwise dots of all fields, then an MLP."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    kind: Literal["dlrm"] = "dlrm"

    bottom: tuple[int, ...] = (512, 256)
    """Hidden layers between the dense inputs and their vector of out_dim elements."""

    top: tuple[int, ...] = (512, 256)
    """Hidden layers between the interactions and the logit."""

    dropout: float = 0.0
    """Share of the hidden units of the top that a step of training leaves out."""

    join: Widening = "project"
    """How narrow fields become as wide as the others: ``project``ed by learned matrices, or padded
    with zeros, which costs no bytes."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.dlrm import DLRM

        return DLRM(embeddings, num_dense, bottom=self.bottom, top=self.top, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class DCNv2Network:
    """Deep and cross network, second version: explicit products of features, then an MLP."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    join: ClassVar[Join] = "concatenate"

    kind: Literal["dcnv2"] = "dcnv2"

    cross_layers: int = 3
    """Cross layers; each raises the degree of the products by one."""

    cross_rank: int = 64
    """Rank of the cross layers' matrices; 0 for full ones."""

    hidden: tuple[int, ...] = (512, 256)
    """Layers of the deep network."""

    dropout: float = 0.0
    """Share of the hidden units that a step of training leaves out."""

    structure: Literal["stacked", "parallel"] = "stacked"
    """Whether the deep network sees the crosses, or the inputs beside them."""

    def __post_init__(self) -> None:
        for name, least in (("cross_layers", 1), ("cross_rank", 0)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name}={value}, expected at least {least}")

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.dcnv2 import DCNv2

        return DCNv2(
            embeddings,
            num_dense,
            cross_layers=self.cross_layers,
            cross_rank=self.cross_rank,
            hidden=self.hidden,
            structure=self.structure,
            dropout=self.dropout,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepFMNetwork:
    """Factorization machine and MLP side by side, on the same embeddings."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    kind: Literal["deepfm"] = "deepfm"

    hidden: tuple[int, ...] = (400, 400, 400)
    """Hidden layers of the deep part."""

    dropout: float = 0.0
    """Share of the hidden units that a step of training leaves out."""

    join: Widening = "project"
    """How narrow fields become as wide as the others: ``project``ed by learned matrices, or padded
    with zeros, which costs no bytes."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.deepfm import DeepFM

        return DeepFM(embeddings, num_dense, hidden=self.hidden, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class FMNetwork:
    """Factorization machine: a linear term and the dots of all pairs."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    kind: Literal["fm"] = "fm"

    join: Widening = "project"
    """How narrow fields become as wide as the others: ``project``ed by learned matrices, or padded
    with zeros, which costs no bytes."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.fm import FM

        return FM(embeddings, num_dense)


@dataclass(frozen=True, kw_only=True, slots=True)
class WideDeepNetwork:
    """A linear model and an MLP, added up."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    join: ClassVar[Join] = "concatenate"

    kind: Literal["wide_deep"] = "wide_deep"

    hidden: tuple[int, ...] = (1024, 512, 256)
    """Hidden layers of the deep part."""

    dropout: float = 0.0
    """Share of the hidden units that a step of training leaves out."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.wide_deep import WideDeep

        return WideDeep(embeddings, num_dense, hidden=self.hidden, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class NCFNetwork:
    """Neural collaborative filtering: an MLP on the concatenated fields."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    join: ClassVar[Join] = "concatenate"

    kind: Literal["ncf"] = "ncf"

    hidden: tuple[int, ...] = (128, 128, 128)
    """Hidden layers."""

    dropout: float = 0.0
    """Share of the hidden units that a step of training leaves out."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.ncf import NCF

        return NCF(embeddings, num_dense, hidden=self.hidden, dropout=self.dropout)


@dataclass(frozen=True, kw_only=True, slots=True)
class MFNetwork:
    """Matrix factorization of two fields."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    kind: Literal["mf"] = "mf"

    biases: Literal["column", "direction", "none"] = "column"
    """The first element of each vector, a learned direction of it, or no biases at all."""

    join: Widening = "pad"
    """How narrow fields become as wide as the others: ``project``ed by learned matrices, or padded
    with zeros, which costs no bytes."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.mf import MF

        return MF(embeddings, num_dense, biases=self.biases)


@dataclass(frozen=True, kw_only=True, slots=True)
class DotBiasNetwork:
    """fastai's EmbeddingDotBias of two fields: the first element of a vector is its bias."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    kind: Literal["dotbias"] = "dotbias"

    y_range: tuple[float, float] | None = None
    """Bounds of the ratings; None for clicks and for unbounded ratings."""

    def __post_init__(self) -> None:
        _check_range(self.y_range)

    join: Widening = "pad"
    """How narrow fields become as wide as the others: ``project``ed by learned matrices, or padded
    with zeros, which costs no bytes."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.dotbias import DotBias

        return DotBias(embeddings, num_dense, y_range=self.y_range)


@dataclass(frozen=True, kw_only=True, slots=True)
class CollabNNNetwork:
    """fastbook's CollabNN: one hidden layer on the concatenated fields."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    join: ClassVar[Join] = "concatenate"

    kind: Literal["collabnn"] = "collabnn"

    num_hidden: int = 100
    """Width of the hidden layer."""

    dropout: float = 0.0
    """Share of the hidden units that a step of training leaves out."""

    y_range: tuple[float, float] | None = None
    """Bounds of the ratings; None for clicks and for unbounded ratings."""

    def __post_init__(self) -> None:
        _check_range(self.y_range)

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.collabnn import CollabNN

        return CollabNN(
            embeddings,
            num_dense,
            num_hidden=self.num_hidden,
            y_range=self.y_range,
            dropout=self.dropout,
        )


def _check_range(y_range: tuple[float, float] | None) -> None:
    if y_range is not None and not y_range[0] < y_range[1]:
        raise ValueError(
            f"y_range={y_range}, expected the lower bound first; ratings of 1 to 5 take 0 5.5"
        )


Network = (  # add a model: one file, one name here
    DLRMNetwork
    | DCNv2Network
    | DeepFMNetwork
    | FMNetwork
    | WideDeepNetwork
    | NCFNetwork
    | MFNetwork
    | DotBiasNetwork
    | CollabNNNetwork
)

NETWORKS: Final[Mapping[str, type[Network]]] = MappingProxyType(
    {network.__dataclass_fields__["kind"].default: network for network in get_args(Network)}
)

PAIRWISE: Final = ("mf", "dotbias")
"""Networks that multiply exactly two fields."""
