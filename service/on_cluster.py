"""A sizing plan on a described cluster: what `size`, `plan` and `explain` ask the planner."""

from collections.abc import Sequence

from models.tables import FieldStats, SparseOptimizer
from service.sharding_file import find_cluster
from service.sizing import SizingFile
from sharding.cost import Workload
from sharding.summary import PlanSummary, summarise


def workload_of(
    sizing: SizingFile,
    batch_size: int,
    stats: Sequence[FieldStats] = (),
    optimizer: SparseOptimizer | None = None,
) -> Workload:
    """How a plan's tables are used; the blocks of a field share its ids, which is an upper bound.

    Args:
        sizing: The plan.
        batch_size: Examples per rank and step.
        stats: Statistics of the fields; one id an example where a field has none.
        optimizer: Optimizer of the tables instead of the sizing's.
    """
    factors = {field.name: field.pooling_factor for field in stats}
    return Workload(
        batch_size=batch_size,
        optimizer=optimizer or sizing.optimizer,
        pooling_factors={
            table.name: factors.get(table.field, 1.0) for table in sizing.plan.tables()
        },
    )


def summarise_on(
    sizing: SizingFile,
    cluster: str,
    *,
    batch_size: int,
    num_ranks: int | None = None,
    stats: Sequence[FieldStats] = (),
) -> PlanSummary:
    """Place a sizing plan on a cluster, and say what that costs.

    Args:
        sizing: The plan.
        cluster: A cluster by name, or a TOML or JSON file that describes one.
        batch_size: Examples per rank and step.
        num_ranks: Ranks to use instead of the cluster's own.
        stats: Statistics of the fields, for the ids that an example has in list fields.

    Raises:
        PlanError: If the tables do not fit; says how much memory, how many ranks or which budget
            would do.
        ValueError: If there is no such cluster, or a number makes no sense.
    """
    found = find_cluster(cluster, num_ranks)
    return summarise(list(sizing.plan.tables()), found, workload_of(sizing, batch_size, stats))
