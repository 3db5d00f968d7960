"""What a rank tells Prometheus of how well its tables are used; `service.train.health` measures."""

from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge


class EmbeddingMetrics:
    """Health of the tables that one rank holds, and of the fields that were evaluated.

    A series is there once it has been measured: an unknown rank is not 0.

    Args:
        registry: Where the metrics are declared; never the global one.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        table = partial(Gauge, labelnames=["table"], registry=registry)
        self.rows = table("mixdim_table_rows", "Rows of a table that this rank holds.")
        self._of_tables = {
            "touched": table(
                "mixdim_table_touched_ratio", "Share of a table's rows that training ever moved."
            ),
            "moved": table(
                "mixdim_table_moved_ratio",
                "Share of a table's rows moved since the last look.",
            ),
            "norm": table("mixdim_table_row_norm", "Mean Euclidean norm of the moved rows."),
            "rank": table(
                "mixdim_table_effective_rank",
                "Directions that the moved rows use: exp of the entropy of their singular values.",
            ),
            "saturation": table(
                "mixdim_table_saturation_ratio", "Effective rank of a table over its width."
            ),
        }
        slices = partial(Gauge, labelnames=["split", "field", "slice"], registry=registry)
        self._slice_loss = slices(
            "mixdim_eval_slice_loss",
            "Mean loss of examples by how often training saw their id: nats, or squared error.",
        )
        self._slice_rows = slices(
            "mixdim_eval_slice_rows", "Examples that a loss by frequency is the mean of."
        )
        self._unknown = Gauge(
            "mixdim_eval_unknown_ratio",
            "Share of an evaluated split's ids that are outside the vocabulary.",
            ["split", "field"],
            registry=registry,
        )
        self.seconds = Counter(
            "mixdim_train_health_seconds_total",
            "Time this rank has spent on measuring the health of embeddings.",
            registry=registry,
        )

    def set_table(self, table: str, figures: Mapping[str, float]) -> None:
        """Show what was measured of a table: touched, moved, norm, rank, saturation."""
        for name, value in figures.items():
            self._of_tables[name].labels(table=table).set(value)

    def set_slice(self, split: str, field: str, name: str, loss: float, num_rows: int) -> None:
        """Show the loss of the examples whose id of a field is in a slice."""
        labels = {"split": split, "field": field, "slice": name}
        self._slice_rows.labels(**labels).set(num_rows)
        if num_rows:
            self._slice_loss.labels(**labels).set(loss)

    def set_unknown(self, split: str, field: str, ratio: float) -> None:
        """Show how much of an evaluated field is outside the vocabulary."""
        self._unknown.labels(split=split, field=field).set(ratio)
