"""The choice of a network and its layer sizes, readable without torch.

Add a model: one file with a `CtrModel`, one dataclass here, one name in `Network`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final, Literal, get_args

from pydantic import ConfigDict

if TYPE_CHECKING:
    from models.base import CtrModel
    from models.embeddings.base import FieldEmbeddings


@dataclass(frozen=True, kw_only=True, slots=True)
class DLRMNetwork:
    """Deep learning recommendation model: pairwise dots of all fields, then an MLP."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    kind: Literal["dlrm"] = "dlrm"

    bottom: tuple[int, ...] = (512, 256)
    """Hidden layers between the dense inputs and their vector of out_dim elements."""

    top: tuple[int, ...] = (512, 256)
    """Hidden layers between the interactions and the logit."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.dlrm import DLRM

        return DLRM(embeddings, num_dense, bottom=self.bottom, top=self.top)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepFMNetwork:
    """Factorization machine and MLP side by side, on the same embeddings."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    kind: Literal["deepfm"] = "deepfm"

    hidden: tuple[int, ...] = (400, 400, 400)
    """Hidden layers of the deep part."""

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.deepfm import DeepFM

        return DeepFM(embeddings, num_dense, hidden=self.hidden)


@dataclass(frozen=True, kw_only=True, slots=True)
class MFNetwork:
    """Biased matrix factorization of two fields."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    kind: Literal["mf"] = "mf"

    def build(self, embeddings: "FieldEmbeddings", num_dense: int) -> "CtrModel":
        """Make the network."""
        from models.mf import MF

        return MF(embeddings, num_dense)


Network = DLRMNetwork | DeepFMNetwork | MFNetwork  # add a model: one file, one name here

NETWORKS: Final[Mapping[str, type[Network]]] = MappingProxyType(
    {network.__dataclass_fields__["kind"].default: network for network in get_args(Network)}
)
