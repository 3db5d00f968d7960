"""Does it learn, how fast, and what went wrong: the dashboard of trainings."""

from typing import Final

from deploy.grafana.panels import Board, Panel

BUCKETS: Final = "rate(mixdim_train_step_seconds_bucket{@ranks}[$__rate_interval])"

NUMBERS: Final = (
    Panel(
        title="Ranks up",
        about="Ranks that Prometheus reaches.",
        queries=[('sum(up{@ranks, run!=""})', "")],
        kind="number",
        width=4,
    ),
    Panel(
        title="Progress",
        about="Steps done over those of a run that does not stop early.",
        queries=[("max(mixdim:run_progress:ratio{@runs})", "")],
        kind="number",
        unit="percentunit",
        width=4,
        decimals=1,
    ),
    Panel(
        title="Time left",
        about="At the pace of the last minutes; of the run that takes longest.",
        queries=[
            (
                "max((mixdim_train_planned_steps{@ranks} - mixdim_train_step{@ranks})"
                " / (rate(mixdim_train_steps_total{@ranks}[$__rate_interval]) > 0))",
                "",
            )
        ],
        kind="number",
        unit="s",
        width=4,
        decimals=0,
    ),
    Panel(
        title="Best validation AUC",
        about="Of the time shown. The checkpoint that has it is kept.",
        queries=[
            (
                'max(max_over_time(mixdim_eval_auc_ratio{split="validation", @ranks}[$__range]))',
                "",
            )
        ],
        kind="number",
        width=4,
        decimals=4,
    ),
    Panel(
        title="Epochs finished",
        about="Of the run that is furthest.",
        queries=[("max(mixdim_train_epoch{@ranks})", "")],
        kind="number",
        width=4,
    ),
    Panel(
        title="Version",
        about="Of MixDim; other versions are labels of the same metric.",
        queries=[("mixdim_build_info{@ranks}", "{{version}}")],
        kind="number",
        width=4,
        shows_name=True,
    ),
)

LEARNING: Final = (
    Panel(
        title="Training loss",
        about="Of the last logged step, over all ranks. Gaps are losses that are not numbers.",
        queries=[("max by (run) (mixdim_train_loss{@ranks})", "{{run}}")],
    ),
    Panel(
        title="AUC",
        about="Area under the ROC curve of each evaluated split; clicks only.",
        queries=[("max by (run, split) (mixdim_eval_auc_ratio{@ranks})", "{{run}} {{split}}")],
    ),
    Panel(
        title="Log loss",
        about="In nats, of each evaluated split; clicks only.",
        queries=[("max by (run, split) (mixdim_eval_log_loss{@ranks})", "{{run}} {{split}}")],
    ),
    Panel(
        title="Normalized entropy",
        about="Log loss over that of predicting the mean label: below 1 something was learned.",
        queries=[
            (
                "max by (run, split) (mixdim_eval_normalized_entropy_ratio{@ranks})",
                "{{run}} {{split}}",
            )
        ],
    ),
    Panel(
        title="Calibration",
        about="Mean prediction over mean label: 1 is right.",
        queries=[
            ("max by (run, split) (mixdim_eval_calibration_ratio{@ranks})", "{{run}} {{split}}")
        ],
    ),
    Panel(
        title="Rating error (RMSE)",
        about="In units of the label; ratings only.",
        queries=[
            (
                "max by (run, split) (mixdim_eval_root_mean_squared_error{@ranks})",
                "{{run}} {{split}}",
            )
        ],
    ),
)

SPEED: Final = (
    Panel(
        title="Examples per second",
        about="Of all ranks of a run together.",
        queries=[
            (
                "sum by (run) (rate(mixdim_train_examples_total{@ranks}[$__rate_interval]))",
                "{{run}}",
            )
        ],
        unit="short",
    ),
    Panel(
        title="Step time",
        about="Waiting for data included. The tail shows what a mean hides.",
        queries=[
            # A quantile of no steps is not a number; >= 0 leaves it out.
            (f"histogram_quantile({q / 100}, sum by (le) ({BUCKETS})) >= 0", f"p{q}")
            for q in (50, 90, 99)
        ],
        unit="s",
    ),
    Panel(
        title="Waiting for data",
        about="Share of the step time; above 30 % the disk or the reading processor is too slow.",
        queries=[("mixdim:rank_loader_wait:ratio5m{@ranks}", "{{run}} rank {{rank}}")],
        unit="percentunit",
    ),
)

TROUBLE: Final = (
    Panel(
        title="Faults",
        about="In the time shown. docs/runbook.md has a section for each.",
        queries=[
            (f"sum(increase({metric}{{@ranks}}[$__range]))", name)
            for metric, name in (
                ("mixdim_train_nan_skips_total", "skipped: not a number"),
                ("mixdim_train_restarts_total", "restarts"),
                ("mixdim_checkpoint_failures_total", "checkpoints failed"),
                ("mixdim_train_lost_metrics_total", "metrics lost"),
            )
        ]
        # Counted while a run starts, so that nothing ever sees it rise.
        + [("sum(mixdim_checkpoint_damaged_total{@ranks})", "checkpoints damaged")],
        kind="bars",
        is_warning=True,
    ),
    Panel(
        title="Idle seconds",
        about="Time since a rank has last made progress. The one that stopped first has most.",
        queries=[("mixdim_train_idle_seconds{@ranks}", "{{run}} rank {{rank}}")],
        unit="s",
    ),
    Panel(
        title="Checkpoint age",
        about="What a crash would cost.",
        queries=[("max by (run) (mixdim_checkpoint_age_seconds{@ranks})", "{{run}}")],
        unit="s",
    ),
    Panel(
        title="Memory",
        about="Resident memory of every rank, and the most that it ever was.",
        queries=[
            ("mixdim_process_resident_memory_bytes{@ranks}", "{{run}} rank {{rank}}"),
            ("mixdim_process_peak_memory_bytes{@ranks}", "{{run}} rank {{rank}} peak"),
        ],
        unit="bytes",
    ),
    Panel(
        title="Disk of the run folder",
        about="Share that is free. A full disk costs checkpoints.",
        queries=[
            (
                "min by (run) (mixdim_run_disk_free_bytes{@ranks}"
                " / mixdim_run_disk_size_bytes{@ranks})",
                "{{run}}",
            )
        ],
        unit="percentunit",
    ),
    Panel(
        title="Alerts that fire",
        about="Alerts of MixDim, by name.",
        queries=[
            (
                'count by (alertname) (ALERTS{alertstate="firing", alertname=~"Mixdim.*"})'
                ' or label_replace(vector(0), "alertname", "none", "", "")',
                "{{alertname}}",
            )
        ],
        kind="bars",
        is_warning=True,
    ),
)

BOARD: Final = Board(
    uid="mixdim-train",
    title="MixDim training",
    about="Does it learn, how fast, and what went wrong.",
    panels=[*NUMBERS, *LEARNING, *SPEED, *TROUBLE],
)
