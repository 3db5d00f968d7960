"""Rows that become codes: differentiable product quantization behind ordinary tables."""

# Shapes:  B batch, F coded fields, G groups of a vector, K codes of a group, d width of a vector

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from models.embeddings.base import FieldEmbeddings
from models.embeddings.choice import Surroundings
from models.embeddings.coded import CodedChoice
from models.embeddings.mixed import bag_collection
from models.embeddings.quantizer import Quantizer
from models.embeddings.vectors import FieldVectors
from models.tables import Table


class DPQEmbeddings(FieldEmbeddings):
    """Ordinary tables whose rows are queries: each part of one is replaced by a code's value.

    Behind the lookup a query is cut into ``G`` parts, every part finds one of ``K`` keys, and the
    vector is made of what these stand for. In training gradients pass straight through, so that
    queries, keys and values are learned end to end; in evaluation vectors are those of the codes,
    which are all that an export holds. In MGQE rare ids find among the first keys alone.

    Args:
        choice: Groups and codes.
        coded: The tables whose rows are replaced; the others stay ordinary.
        given: The run's plan, of equally wide tables, and its surroundings.

    Source:
        Chen, Li and Sun, *Differentiable Product Quantization for End-to-End Embedding
        Compression*, ICML 2020, arXiv:1908.09756. Kang et al., *Learning Multi-granular Quantized
        Embeddings for Large-Vocab Categorical Features in Recommender Systems*, WWW 2020,
        arXiv:2002.08530.
    """

    def __init__(self, choice: CodedChoice, coded: Sequence[Table], given: Surroundings) -> None:
        super().__init__()
        tables = list(given.plan.tables())
        self.field_names = tuple(given.plan.fields)
        self.out_dim = given.plan.out_dim
        self.field_dims = (self.out_dim,) * len(tables)
        self.tables = bag_collection(tables, given.pooling, given.device)
        self.codes = Codes(choice, tables, coded)

    def forward(self, features: KeyedJaggedTensor, weights: Tensor | None = None) -> FieldVectors:
        """Look up queries and replace them."""
        return FieldVectors(self.codes(self.look_up(features), features, weights))

    def objective(self, loss: Tensor) -> Tensor:
        """The loss, and how far values are from the queries that they stand for."""
        return loss + self.codes.distance


class Codes(nn.Module):
    """Replace the queries of some fields; holds no tables itself.

    Attributes:
        distance: Mean squared distance of queries and values over the batch and the columns,
            summed over the fields; its gradient moves the values alone. 0 for products.

    Shape:
        - Input: a `KeyedTensor` with one key a table, in any order, the features, and weights of
          examples ``(B,)`` or None.
        - Output: ``(B, number of fields * d)``.
    """

    distance: Tensor

    def __init__(
        self, choice: CodedChoice, tables: Sequence[Table], coded: Sequence[Table]
    ) -> None:
        super().__init__()
        self.names = [table.name for table in tables]
        self.coded_names = [table.name for table in coded]
        bounds = torch.tensor([table.num_embeddings**-0.5 for table in coded])
        width = tables[0].embedding_dim if tables else 0
        tiers = [choice.tiers(table.num_embeddings) for table in coded]
        self.quantizer = Quantizer(
            bounds,
            groups=choice.groups,
            num_codes=choice.most_codes,
            num_rare_codes=tiers[0][-1].num_codes if tiers else choice.most_codes,
            width=width // choice.groups,
            variant=choice.variant,
            temperature=choice.temperature,
            shares_groups=choice.shares_groups,
        )
        heads = torch.tensor([own[0].num_ids for own in tiers], dtype=torch.int64)
        self.register_buffer("heads", heads, persistent=False)
        self.distance = torch.zeros(())

    heads: Tensor
    """Ids of every coded field that choose among all codes, ``(F,)``."""

    def forward(
        self, pooled: KeyedTensor, features: KeyedJaggedTensor, weights: Tensor | None
    ) -> Tensor:
        """Vectors of all fields side by side."""
        vectors = pooled.to_dict()  # by name: a sharded collection returns its keys in plan order
        if self.coded_names:
            queries = torch.stack([vectors[name] for name in self.coded_names], dim=1)  # (B, F, d)
            with torch.autocast(queries.device.type, enabled=False):  # near codes in bf16 are ties
                replaced, distances = self.quantizer(queries, self._rare(features), weights)
            self.distance = distances.sum()
            vectors.update(zip(self.coded_names, replaced.unbind(dim=1), strict=True))
        return torch.cat([vectors[name] for name in self.names], dim=1)

    def _rare(self, features: KeyedJaggedTensor) -> Tensor | None:
        """Which ids choose among fewer codes ``(B, F)``; None where all choose alike."""
        if self.quantizer.chooses_alike:
            return None
        ids = torch.stack([features[name].values() for name in self.coded_names], dim=1)
        return ids >= self.heads
