"""Who holds what, who has most to do, and who is waited for: the dashboard of ranks."""

from typing import Final

from deploy.grafana.panels import Board, Panel

NAME: Final = "{{run}} rank {{rank}}"

BOARD: Final = Board(
    uid="mixdim-sharding",
    title="MixDim sharding",
    about="Who holds what, who has most to do, and who is waited for.",
    panels=[
        Panel(
            title="Imbalance of bytes",
            about="Bytes of the fullest rank over the mean; 1 is even.",
            queries=[("max(mixdim:run_bytes:imbalance{@runs})", "")],
            kind="number",
            width=6,
            decimals=2,
        ),
        Panel(
            title="Imbalance of work",
            about="Processor time a step of the busiest rank over the mean; 1 is even.",
            queries=[("max(mixdim:run_work:imbalance{@runs})", "")],
            kind="number",
            width=6,
            decimals=2,
        ),
        Panel(
            title="Imbalance of the plan",
            about="Bytes of the fullest rank over the mean, as the run was planned.",
            queries=[("max(mixdim_plan_imbalance_ratio{@ranks})", "")],
            kind="number",
            width=6,
            decimals=2,
        ),
        Panel(
            title="Bytes of all tables",
            about="Weights and optimizer state over all ranks, copies included.",
            queries=[("sum(mixdim_table_bytes{@ranks})", "")],
            kind="number",
            unit="bytes",
            width=6,
        ),
        Panel(
            title="Bytes by rank",
            about="Weights and optimizer state that each rank holds.",
            queries=[("mixdim:rank_bytes:sum{@ranks}", NAME)],
            kind="bars",
            unit="bytes",
        ),
        Panel(
            title="Bytes by table",
            about="The twenty largest, over all ranks.",
            queries=[
                (
                    "sort_desc(topk(20, sum by (run, table) (mixdim_table_bytes{@ranks})))",
                    "{{run}} {{table}}",
                )
            ],
            kind="bars",
            unit="bytes",
        ),
        Panel(
            title="Rows by rank",
            about="Rows that each rank holds of all tables.",
            queries=[("sum by (run, rank) (mixdim_table_rows{@ranks})", NAME)],
            kind="bars",
        ),
        Panel(
            title="Step time by rank",
            about="Ranks step together: these curves part only where one is lost.",
            queries=[("mixdim:rank_step_seconds:mean5m{@ranks}", NAME)],
            unit="s",
        ),
        Panel(
            title="Waiting for data by rank",
            about="A rank that waits longer than the others is waited for by all.",
            queries=[("mixdim:rank_loader_wait:ratio5m{@ranks}", NAME)],
            unit="percentunit",
        ),
        Panel(
            title="Work by rank",
            about="Processor time a step: the rank with most of it decides how long a step takes.",
            queries=[("mixdim:rank_cpu_seconds:per_step5m{@ranks}", NAME)],
            unit="s",
        ),
        Panel(
            title="Examples by rank",
            about="Examples a second of each rank.",
            queries=[("rate(mixdim_train_examples_total{@ranks}[$__rate_interval])", NAME)],
            unit="short",
        ),
        Panel(
            title="Memory by rank",
            about="Resident memory.",
            queries=[("mixdim_process_resident_memory_bytes{@ranks}", NAME)],
            unit="bytes",
        ),
        Panel(
            title="Steps per second by rank",
            about="Falls to 0 on all ranks when one hangs.",
            queries=[("rate(mixdim_train_steps_total{@ranks}[$__rate_interval])", NAME)],
            unit="short",
        ),
    ],
)
