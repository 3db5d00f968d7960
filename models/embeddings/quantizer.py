"""Codes of vectors: the keys they are compared with, the values they stand for, and the choice."""

# Shapes:  B batch, F coded fields, G groups of a vector, K codes of a group, s width of a group,
#          d = G s width of a vector, z width of what is multiplied

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.embeddings.coded import Variant
from models.layers.batch_norm import ProductNorm

CACHED_RESPONSES, MOST_RESPONSES = 2**20, 2**26
"""Responses that are made at a time where only the largest is asked for: on CPU they stay in the
cache, elsewhere few kernels are to be started."""

FAR = 1e30
"""What the response of a key loses where an id does not choose it: more than any has."""


class Quantizer(nn.Module):
    """Keys and values of some fields, and the choice among them.

    The response of a key is minus its squared distance to the query (``vq``), or their product
    (``sx``). Responses are normalised over the batch and the groups, one statistic a key, without
    scale and shift: so no key is the nearest to everything for its length alone, and all are used.
    The largest response is the code.

    In ``vq`` keys are the values; a vector is ``q + sg(value - q)``, and values are moved towards
    the queries that they stand for. In ``sx`` a vector is ``(p - sg(p - onehot)) values`` for the
    softmax ``p`` of the responses. ``sg``: no gradient.

    Args:
        bounds: Largest absolute weight that keys and values of every field start with ``(F,)``,
            that of its table.
        groups: ``G``.
        num_codes: ``K``.
        num_rare_codes: How many of them, the first ones, rare ids choose among.
        width: ``s``.
        variant: ``vq`` or ``sx``.
        temperature: Of the softmax.
        shares_groups: Whether groups have the same keys and values.

    Shape:
        - Input: queries ``(B, F, d)``; which of them are of rare ids ``(B, F)``, None for none;
          weights of examples ``(B,)``, or None.
        - Output: vectors ``(B, F, d)``, and the values' distances from the queries ``(F,)``.
    """

    def __init__(
        self,
        bounds: Tensor,
        *,
        groups: int,
        num_codes: int,
        num_rare_codes: int | None = None,
        width: int,
        variant: Variant = "vq",
        temperature: float = 1.0,
        shares_groups: bool = False,
    ) -> None:
        super().__init__()
        self.groups, self.num_codes, self.temperature = groups, num_codes, temperature
        self.num_rare_codes = num_codes if num_rare_codes is None else num_rare_codes
        shape = (len(bounds), 1 if shares_groups else groups, num_codes, width)
        self.keys = _start(shape, bounds)  # (F, G or 1, K, s)
        self.own_values = _start(shape, bounds) if variant == "sx" else None
        self.norm = ProductNorm(len(bounds), num_codes)

    @property
    def values(self) -> nn.Parameter:
        """What codes stand for ``(F, G or 1, K, s)``."""
        return self.keys if self.own_values is None else self.own_values

    @property
    def chooses_alike(self) -> bool:
        """Whether rare ids choose among all codes too."""
        return self.num_rare_codes == self.num_codes

    def forward(
        self, queries: Tensor, rare: Tensor | None, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Replace queries by the values of their codes."""
        distances = queries.new_zeros(queries.shape[1])
        if self.own_values is not None and self.training:
            return self._mix(queries, rare, weights), distances
        with torch.no_grad():
            codes = self.choose(queries, rare, weights)
        chosen = self.look_up(codes).flatten(2)  # (B, F, d)
        if not self.training:
            return chosen, distances
        squares = (chosen - queries.detach()).square().mean(dim=2)  # (B, F)
        if weights is None:
            distances = squares.mean(dim=0)
        else:
            distances = (squares * weights[:, None]).sum(dim=0)
        return queries + (chosen - queries).detach(), distances

    def choose(self, queries: Tensor, rare: Tensor | None, weights: Tensor | None) -> Tensor:
        """Codes of queries ``(B, F, G)``; few responses are held at a time."""
        most = CACHED_RESPONSES if queries.device.type == "cpu" else MOST_RESPONSES
        rows = max(1, most // (self.groups * self.num_codes))
        found = [
            torch.cat([_largest(responses_of(block, keys)) for block in torch.split(points, rows)])
            for points, keys in self._by_field(queries, rare, weights)
        ]
        return torch.stack(found, dim=1)

    def _mix(self, queries: Tensor, rare: Tensor | None, weights: Tensor | None) -> Tensor:
        """The values of codes, with the gradient of what the softmax would mix ``(B, F, d)``."""
        fields = self._by_field(queries, rare, weights)
        responses = [responses_of(*field) for field in fields]
        chosen = self.look_up(torch.stack([_largest(own) for own in responses], dim=1))
        mixed = [
            torch.einsum("bgk,gks->bgs", torch.softmax(own / self.temperature, dim=2), values)
            for own, values in zip(responses, self._of_groups(self.values.detach()), strict=True)
        ]
        soft = torch.stack(mixed, dim=1)  # (B, F, G, s)
        return (chosen + (soft - soft.detach())).flatten(2)

    def _by_field(
        self, queries: Tensor, rare: Tensor | None, weights: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Points ``(B, G, z)`` and keys ``(G, K, z)`` of one field after the other.

        A response is a product: ``-|q - k|^2 = (q, |q|^2, 1) . (2 k, -1, -|k|^2)``, in which less
        is rounded away where both are seen from the middle of the keys. One factor more keeps rare
        ids from what they do not choose.
        """
        parts = queries.view(*queries.shape[:2], self.groups, self.keys.shape[3])  # (B, F, G, s)
        ones, own_ones = torch.ones_like(parts[..., :1]), torch.ones_like(self.keys[..., :1])
        if self.own_values is None:
            middle = self.keys.mean(dim=2, keepdim=True)  # (F, G or 1, 1, s)
            parts, own = parts - middle.squeeze(2), self.keys - middle
            lengths, own_lengths = (x.square().sum(dim=3, keepdim=True) for x in (parts, own))
            points = torch.cat([parts, lengths, ones], dim=3)  # (B, F, G, z)
            keys = torch.cat([2 * own, -own_ones, -own_lengths], dim=3)
        else:
            points = torch.cat([parts, ones], dim=3)
            keys = torch.cat([self.keys, torch.zeros_like(own_ones)], dim=3)
        normalised = self.norm(points, self._of_groups(keys), weights)  # (F, G, K, z)
        if rare is not None:
            numbers = torch.arange(self.num_codes, device=keys.device)
            refused = torch.where(numbers < self.num_rare_codes, 0.0, -FAR).to(keys)
            points = torch.cat([points, rare[..., None, None].to(ones).expand_as(ones)], dim=3)
            refused = refused[:, None].expand_as(normalised[..., :1])
            normalised = torch.cat([normalised, refused], dim=3)
        return zip(points.unbind(dim=1), normalised, strict=True)

    def look_up(self, codes: Tensor) -> Tensor:
        """The values of codes ``(B, F, G)``: ``(B, F, G, s)``."""
        num_fields, num_groups, num_codes, width = self.values.shape
        first = torch.arange(num_fields * num_groups, device=codes.device) * num_codes
        places = codes + first.view(num_fields, num_groups)
        chosen: Tensor = embedding(places, self.values.view(-1, width))
        return chosen

    def of_field(self, field: int) -> "Quantizer":
        """A field's own quantizer, as it is in evaluation."""
        own = Quantizer(
            torch.zeros(1),
            groups=self.groups,
            num_codes=self.num_codes,
            num_rare_codes=self.num_rare_codes,
            width=self.keys.shape[3],
            variant="vq" if self.own_values is None else "sx",
            shares_groups=self.keys.shape[1] < self.groups,
        )
        columns = slice(field * self.num_codes, (field + 1) * self.num_codes)
        with torch.no_grad():
            own.keys.copy_(self.keys[field : field + 1])
            if own.own_values is not None and self.own_values is not None:
                own.own_values.copy_(self.own_values[field : field + 1])
            own.norm.mean.copy_(self.norm.mean[columns])
            own.norm.variance.copy_(self.norm.variance[columns])
        return own.eval()

    def _of_groups(self, vectors: Tensor) -> Tensor:
        """Keys or values of every group, shared ones repeated ``(F, G, K, s)``."""
        return vectors.expand(-1, self.groups, -1, -1)


def responses_of(points: Tensor, keys: Tensor) -> Tensor:
    """Responses ``(B, G, K)`` of a field's keys ``(G, K, z)`` to points ``(B, G, z)``."""
    return torch.einsum("bgz,gkz->bgk", points, keys)


def _largest(responses: Tensor) -> Tensor:
    """Where along ``K`` the largest is; torch's own way on CPU goes there number by number."""
    if responses.device.type == "cpu":
        return torch.from_numpy(responses.detach().numpy().argmax(axis=2))
    return responses.argmax(dim=2)


def _start(shape: tuple[int, int, int, int], bounds: Tensor) -> nn.Parameter:
    return nn.Parameter((2 * torch.rand(shape) - 1) * bounds.view(-1, 1, 1, 1))
