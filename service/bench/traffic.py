"""What a training step sends between ranks, counted byte by byte: who sends what, and why.

Payloads are arithmetic on the plan, the batch and the layers; headers are counted by the packets
that the loopback device carried. What both leave of the measured bytes is named ``unexplained``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.tables import FLOAT_BYTES, Table
from sharding.constraints import ShardingConfig
from sharding.cost import COMM_BYTES, ID_BYTES, LENGTH_BYTES

PACKET_BYTES: Final = 52
"""Headers of a packet as the loopback device counts them: IPv4 20, TCP 20, its time stamps 12."""
_COUNTERS: Final = Path("/proc/net/dev")
_SENT_BYTES, _SENT_PACKETS = 8, 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """Bytes and packets that the loopback device has carried since it is up."""

    num_bytes: int
    num_packets: int

    @classmethod
    def now(cls) -> "Carried":
        """Read the counters; what is sent is received, and counted once here."""
        lines = _COUNTERS.read_text().splitlines()
        line = next(line for line in lines if line.strip().startswith("lo:"))
        columns = line.partition(":")[2].split()
        return cls(num_bytes=int(columns[_SENT_BYTES]), num_packets=int(columns[_SENT_PACKETS]))


def payload_bytes(
    tables: Sequence[tuple[Table, float]],
    sharding: ShardingConfig,
    *,
    batch_size: int,
    num_ranks: int,
    dense_weights: int,
) -> dict[str, float]:
    """Bytes of a step by cause, over all ranks, of tables that are copied or live whole on a rank.

    Args:
        tables: Tables, and the mean ids an example looks up in each.
        sharding: Gives the numbers that vectors and their gradients travel in, and who is copied.
        batch_size: Examples per rank.
        num_ranks: Ranks.
        dense_weights: Parameters of the layers, and of copied tables.
    """
    others = num_ranks - 1
    tables = [each for each in tables if each[0].stored.num_embeddings > sharding.max_copied_rows]
    width = sum(table.stored.embedding_dim for table, _ in tables)
    examples = others * batch_size  # of a table's rank, those that come from elsewhere
    return {
        # Every rank asks the owner of every table: a length an example, and the ids.
        "length_bytes": examples * len(tables) * LENGTH_BYTES,
        "id_bytes": examples * sum(ids for _, ids in tables) * ID_BYTES,
        "vector_bytes": examples * width * COMM_BYTES[sharding.comms],
        "gradient_bytes": examples * width * COMM_BYTES[sharding.gradient_comms],
        # A ring passes every gradient of the layers on twice, less the own share.
        "layer_bytes": 2 * others * dense_weights * FLOAT_BYTES,
    }


def accounted(
    payload: Mapping[str, float], start: Carried, end: Carried, steps: int
) -> dict[str, float]:
    """What was carried a step, by cause; what no cause explains is left over."""
    measured = (end.num_bytes - start.num_bytes) / steps
    headers = PACKET_BYTES * (end.num_packets - start.num_packets) / steps
    unexplained = measured - headers - sum(payload.values())
    return {
        "traffic_bytes_per_step": measured,
        **payload,
        "header_bytes": headers,
        "unexplained_bytes": unexplained,
    }
