"""How sizing plans do on a cluster, in lines for one plan and a table for several."""

from collections.abc import Mapping

from rich import box
from rich.table import Table

from sharding.summary import PlanSummary, Refusal


def summary_lines(summary: PlanSummary) -> str:
    """Bytes, traffic, imbalance and predicted time of one plan."""
    share = summary.max_rank_bytes / summary.room_bytes
    figures = (
        ("ranks", f"{summary.num_ranks:,}", ""),
        ("all ranks", f"{summary.total_bytes:,}", "bytes of tables with their optimizer state"),
        ("fullest rank", f"{summary.max_rank_bytes:,}", f"bytes; {share:.1%} of its room"),
        ("mean rank", f"{summary.mean_rank_bytes:,.0f}", "bytes"),
        ("sent, most", f"{summary.max_sent_bytes_per_step:,}", "bytes a step, forward, by a rank"),
        ("sent, mean", f"{summary.mean_sent_bytes_per_step:,.0f}", "bytes a step"),
        ("imbalance", f"{summary.imbalance_ratio:.2f}", "fullest rank's bytes / mean"),
        ("time imbalance", f"{summary.time_imbalance_ratio:.2f}", "busiest rank's time / mean"),
        (
            "predicted step",
            f"{summary.step_seconds * 1e3:,.3f}",
            f"ms: lookup {summary.lookup_seconds * 1e3:,.3f}, exchange "
            f"{summary.exchange_seconds * 1e3:,.3f}; without the dense layers",
        ),
        ("speeds", "", summary.speeds),
    )
    return "\n".join(f"{name:<20} {value:>16}  {words}".rstrip() for name, value, words in figures)


def summary_table(candidates: Mapping[str, PlanSummary | Refusal]) -> Table:
    """One line a sizing plan; those that cannot be placed with the memory that would do."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    titles = ("plan", "ranks", "fullest rank", "mean rank", "sent/step", "imbalance", "time", "ms")
    for title in titles:
        table.add_column(title, justify="left" if title == "plan" else "right", no_wrap=True)
    for name, found in candidates.items():
        if isinstance(found, Refusal):
            table.add_row(name, "-", f"needs {found.needed_bytes:,}", *["-"] * (len(titles) - 3))
            continue
        table.add_row(
            name,
            f"{found.num_ranks:,}",
            f"{found.max_rank_bytes:,}",
            f"{found.mean_rank_bytes:,.0f}",
            f"{found.max_sent_bytes_per_step:,}",
            f"{found.imbalance_ratio:.2f}",
            f"{found.time_imbalance_ratio:.2f}",
            f"{found.step_seconds * 1e3:,.3f}",
        )
    return table
