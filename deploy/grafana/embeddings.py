"""Are rows and widths used, and whom does the model serve badly: the health of embeddings."""

from typing import Final

from deploy.grafana.panels import Board, Panel


def _of_whole_tables(metric: str) -> str:
    """Mean over ranks, which count by the rows that they hold."""
    return (
        f"sum by (run, table) ({metric}{{@ranks}} * mixdim_table_rows{{@ranks}})"
        f" / sum by (run, table) (mixdim_table_rows{{@ranks}} and {metric}{{@ranks}})"
    )


def _of_slices(by: str) -> str:
    """Mean loss, where examples count alike."""
    loss, rows = 'mixdim_eval_slice_loss{split="validation", @runs}', "mixdim_eval_slice_rows"
    return f"sum by ({by}) ({loss} * {rows}) / sum by ({by}) ({rows} and {loss})"


OF_TABLES: Final = (
    Panel(
        title="Rows touched",
        about="Share of a table's rows that training ever moved. Rows that never move are waste.",
        queries=[("mixdim:table_touched:ratio{@runs}", "{{run}} {{table}}")],
        unit="percentunit",
    ),
    Panel(
        title="Rows moved lately",
        about="Share of a table's rows that moved since the checkpoint before.",
        queries=[(_of_whole_tables("mixdim_table_moved_ratio"), "{{run}} {{table}}")],
        unit="percentunit",
    ),
    Panel(
        title="Norm of rows",
        about="Mean over rows that moved. One that keeps growing over-fits: penalise it (--l2).",
        queries=[(_of_whole_tables("mixdim_table_row_norm"), "{{run}} {{table}}")],
    ),
    Panel(
        title="Saturation of widths",
        about="Effective rank over width. Near 1 more width may help, near 0 less would do.",
        queries=[("sort_desc(mixdim:table_saturation:ratio{@runs})", "{{run}} {{table}}")],
        kind="bars",
        unit="percentunit",
    ),
    Panel(
        title="Saturation over time",
        about="It settles when a table has found the directions that it needs.",
        queries=[("mixdim:table_saturation:ratio{@runs}", "{{run}} {{table}}")],
        unit="percentunit",
    ),
    Panel(
        title="Effective rank",
        about="Directions that a table's rows use: exp of the entropy of its singular values.",
        queries=[(_of_whole_tables("mixdim_table_effective_rank"), "{{run}} {{table}}")],
    ),
)

OF_FIELDS: Final = (
    Panel(
        title="Out of vocabulary, training",
        about="Share of the ids that training looks up; the ten highest fields.",
        queries=[("topk(10, mixdim:field_unknown:ratio10m{@runs})", "{{run}} {{field}}")],
        unit="percentunit",
    ),
    Panel(
        title="Out of vocabulary, validation",
        about="Share of the ids of the validation split: what the vocabulary does not know yet.",
        queries=[
            (
                'topk(10, max by (run, field) (mixdim_eval_unknown_ratio{split="validation", '
                "@ranks}))",
                "{{run}} {{field}}",
            )
        ],
        unit="percentunit",
    ),
    Panel(
        title="Loss by frequency",
        about="Mean over fields of the validation loss by how often training saw an id: head are "
        "the ids of half of all lookups, torso of the next 40 %, tail the rest. Log loss in nats; "
        "of ratings the squared error.",
        queries=[(_of_slices("run, slice"), "{{run}} {{slice}}")],
    ),
    Panel(
        title="Loss of the tail, by field",
        about="Validation loss of examples whose id training saw rarely; the ten highest fields.",
        queries=[
            (
                'topk(10, max by (run, field) (mixdim_eval_slice_loss{slice="tail", '
                'split="validation", @runs}))',
                "{{run}} {{field}}",
            )
        ],
        width=12,
    ),
    Panel(
        title="Examples by frequency",
        about="How many sampled validation examples a loss is the mean of, over fields.",
        queries=[
            (
                'avg by (run, slice) (mixdim_eval_slice_rows{split="validation", @runs})',
                "{{run}} {{slice}}",
            )
        ],
        kind="bars",
        width=6,
    ),
    Panel(
        title="Cost of looking",
        about="Share of a rank's time that measuring this page has taken.",
        queries=[("rate(mixdim_train_health_seconds_total{@ranks}[5m])", "{{run}} rank {{rank}}")],
        unit="percentunit",
        width=6,
    ),
)

BOARD: Final = Board(
    uid="mixdim-embeddings",
    title="MixDim embedding health",
    about="Are rows and widths used, and whom does the model serve badly.",
    panels=[*OF_TABLES, *OF_FIELDS],
)
