"""The training loop: the same for every model, plan and number of ranks."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from functools import partial

from torch import Tensor
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from service.checkpoint import Checkpoints, Progress
from service.config import TrainConfig
from service.data.batch import Batch
from service.data.dataset import Split, read_dataset_info
from service.distributed import Ranks, joined_ranks
from service.resize.resume import resumed_from
from service.run_folder import RESULT_FILE, SHARDING_FILE, SIZING_FILE, RunFolder, without_nan
from service.sizing import read_sizing
from service.stop import Stopped, StopRequest
from service.train.arithmetic import set_arithmetic
from service.train.engine import build_engine
from service.train.evaluation import Hooks, Scores, evaluate
from service.train.finite import NotANumber, check_finite
from service.train.health import Health
from service.train.position import check_order, is_done, is_due, is_validation_owed, order_of
from service.train.rates import Rates
from service.train.record import record_run
from service.train.report import Reporter
from service.train.result import TrainResult
from service.train.run_data import RunData, shared_among
from service.train.same_tables import check_same_tables
from service.train.skip import MAX_SKIPS, behind, examples_of
from service.train.task import StepOutput
from service.train.turns import Turns
from service.train.warm_start import warm_start
from service.train.watchdog import PATIENT, Watchdog
from service.vocabulary_change import check_same_ids

WITHOUT_WATCHDOG = 600.0
"""Seconds that ranks wait for each other where no watchdog ends them."""


def train(config: TrainConfig) -> TrainResult:
    """Train on the ranks that this process is one of, and score the best checkpoint.

    Raises:
        ValueError: If data, sizing plan, device and configuration do not fit each other, or another
            training writes into the run folder.
        PlanError: If the tables do not fit on the ranks.
        FloatingPointError: If the loss is not a number.
    """
    patience = (PATIENT + 1) * config.hang_timeout or WITHOUT_WATCHDOG
    joined = joined_ranks(config.device, timeout_seconds=patience)
    with joined as ranks, StopRequest().listening() as stop, ExitStack() as held:
        ranks.from_first(lambda: held.enter_context(RunFolder(config.output).held()))
        config = shared_among(ranks.world_size, config)
        return _Training(resumed_from(config, ranks), ranks, stop).run()


class _Training:
    """One run on one rank."""

    def __init__(self, config: TrainConfig, ranks: Ranks, stop: StopRequest) -> None:
        self.folder = RunFolder(config.output)
        config = ranks.from_first(lambda: self.folder.check(config))
        self.config, self.ranks, self.stop = config, ranks, stop
        set_arithmetic(config, self.folder, ranks)
        # One rank reads for all: a dataset may be exchanged between two looks at it.
        self.info = ranks.from_first(lambda: read_dataset_info(config.data))
        sizing = replace(read_sizing(config.sizing), join=config.network.join)
        sizing.check_against(self.info)
        sizing.check_budget(config.optimizer.sparse)
        self.plan = sizing.plan
        engine = build_engine(config, self.info, self.plan, ranks)
        self.model, self.optimizer = engine.model, engine.optimizer
        self.pipeline: TrainPipelineSparseDist[Batch, StepOutput] = TrainPipelineSparseDist(
            self.model, self.optimizer, ranks.device
        )
        self.reporter = Reporter(config, self.folder, ranks)
        self.checkpoints = Checkpoints(
            self.folder.checkpoints,
            ranks,
            keep=config.keep_checkpoints,
            copies=[self.folder.path / name for name in (SIZING_FILE, SHARDING_FILE)],
            listener=self.reporter,
        )
        self.warnings: list[str] = []
        self.progress = self._resume()
        self._saved_step = self.progress.step
        layout = config.embeddings.layout(self.plan)
        self.data = RunData(config, self.info, layout, ranks)
        self.turns = Turns(config, self.data, self.model, self.optimizer, ranks.device)
        self.reporter.total_steps = steps = self.data.planned_steps(self.progress)
        self.rates = Rates(self.optimizer, config.optimizer, self.progress, total_steps=steps)
        self.watchdog = Watchdog(ranks, config.output, seconds=config.hang_timeout)
        self.reporter.metrics.idle_seconds.set_function(self.watchdog.idle_seconds)
        last = {"last_step": self.progress.step, "last_validated": self.progress.validated_step}
        ranks.from_first(lambda: self.folder.make_ready(config, **last))
        record_run(self.folder, config, self.plan, engine, ranks, self.reporter)
        self.health = Health(config, self.info, layout, engine, self.reporter.embeddings)

    def run(self) -> TrainResult:
        """Train until the epochs are done, nothing improves, or somebody says stop."""
        self.model.train()
        with self.reporter, self.watchdog, self.checkpoints:
            try:
                self._train()
                return self._finish()
            except Stopped as stopped:
                return self._result("train", {}, stopped_by=stopped.signal.name)

    def _train(self) -> None:
        """Train until the epochs are done or nothing improves."""
        try:
            self.stop.check(self.ranks)
            if self.config.on_nan == "skip" and self.progress.step == 0:
                self._save()
            while self._owes_validation or not is_done(self.progress, self.config):
                self._go_on()
        except Stopped:
            if self.progress.step > self._saved_step:
                with suppress(NotANumber):  # a resumed run will meet it again
                    self._save()
            self._wait_for_checkpoint()
            raise

    @property
    def _owes_validation(self) -> bool:
        owes = is_validation_owed(self.progress, self.config)
        return owes and self.data.has_rows("validation")

    def _go_on(self) -> None:
        """Validate where that is owed, else train for up to an epoch."""
        try:
            if self._owes_validation:
                self._validate()
            else:
                self._train_epoch()
        except NotANumber as bad:
            self._go_back(bad)

    def _train_epoch(self) -> None:
        """Train on the rest of this epoch, or until the run is done or stopped."""
        progress, config = self.progress, self.config
        batches = self.reporter.waiting_for(self.watchdog.loading(self.turns.batches(progress)))
        while (loss := self._step(batches)) is not None:
            self.rates.step()
            progress.step += 1
            progress.batch += 1
            self.reporter.end_step(progress, loss, self.data.train)
            if is_due(progress.step, config.validate_every) or progress.step == config.max_steps:
                self._validate()
            elif is_due(progress.step, config.checkpoint_every):
                self._save()
            if is_done(progress, config):
                return
            self.stop.check(self.ranks, progress.step)
        self.reporter.flush(progress)  # while the position is that of its steps
        progress.epoch += 1
        progress.batch = 0
        self._validate()

    def _step(self, batches: Iterator[Batch]) -> Tensor | None:
        """One step of the pipeline; None when the epoch has no more batches."""
        self.reporter.start_step()
        self.watchdog.beat("training", self.progress.step)
        try:
            return self.turns.step(self.pipeline, batches, self.progress)
        except StopIteration:
            return None

    def _go_back(self, bad: NotANumber) -> None:
        """Take the last good weights behind the batch to blame, with half of the rates.

        Raises:
            NotANumber: If nobody wants that, or it has happened too often.
        """
        path = self.checkpoints.last() if self.config.on_nan == "skip" else None
        if path is None or self.progress.num_skipped == MAX_SKIPS:
            raise bad
        self._note_damage()
        self.pipeline.detach()
        self.pipeline.reset()  # without the batches that it has read ahead
        self.checkpoints.load(self.model, self.optimizer, path)
        self.progress = behind(bad, self.progress, self.data.train)
        self.rates.take_up(self.progress)
        examples = examples_of(self.progress, self.data.train, self.info, self.ranks)
        self.warnings.append(self.reporter.went_back(bad, self.progress, path, examples))

    def _validate(self) -> None:
        """Score the validation split, drop the learning rate if it got no better, checkpoint."""
        self._check_numbers()
        # An epoch may end on a step that was validated already; judging it twice would count as
        # no improvement.
        if self.progress.validated_step != self.progress.step and self.data.has_rows("validation"):
            self._judge(self._evaluate("validation"))
        self._begin_checkpoint()

    def _judge(self, scores: Scores) -> None:
        """Compare with the best validation so far."""
        progress = self.progress
        self.reporter.scored(progress.step, progress.epoch, scores, "validation")
        _, score = scores.headline
        self.rates.judge(score, progress)
        progress.validated_step = progress.step
        progress.num_worse += 1
        if score > progress.best_score:
            progress.best_score, progress.best_step = score, progress.step
            progress.num_worse = 0

    def _finish(self) -> TrainResult:
        """Score the best checkpoint on the test split."""
        self._wait_for_checkpoint()
        best = self.checkpoints.best()
        assert best is not None  # the last validation has saved one
        self._note_damage()
        loaded = self.checkpoints.load(self.model, None, best)
        split: Split = next(s for s in ("test", "validation", "train") if self.data.has_rows(s))
        scores = self._evaluate(split)
        result = self._result(split, asdict(scores))
        self.reporter.scored(loaded.step, loaded.epoch, scores, split)
        if self.ranks.is_first:
            self.folder.write_json(RESULT_FILE, without_nan(asdict(result)))
        return result

    def _evaluate(self, split: Split) -> Scores:
        self.pipeline.detach()  # else the model only answers to the pipeline
        loader, seen = self.data.loader(split), partial(self.health.judge, split)
        hooks = Hooks(on_batch=self._on_batch, on_predicted=seen)
        scores = evaluate(self.model, loader, self.ranks, self.info.task, hooks)
        self.health.count_unknown(split, loader)
        return scores

    def _on_batch(self, number: int) -> None:
        """A batch of an evaluation is progress, and a place to stop."""
        self.watchdog.beat("evaluating", self.progress.step)
        self.stop.check(self.ranks, number)

    def _save(self) -> None:
        """Begin a checkpoint of weights that are numbers."""
        self._check_numbers()
        self._begin_checkpoint()

    def _check_numbers(self) -> None:
        """Before weights are judged, or written: are they numbers?"""
        self.reporter.flush(self.progress)
        check_finite(self.model, self.optimizer, self.ranks, step=self.progress.step)

    def _begin_checkpoint(self) -> None:
        self.health.look(self.progress.step)
        self.watchdog.beat("writing a checkpoint", self.progress.step, patience=PATIENT)
        # One that fails is reported and the next one tried; the end asks how the last one went.
        self.checkpoints.begin(
            self.model, self.optimizer, self.progress, beside=self.config.checkpoint_async
        )
        self._saved_step = self.progress.step

    def _wait_for_checkpoint(self) -> None:
        self.watchdog.beat("waiting for a checkpoint", self.progress.step, patience=PATIENT)
        self.checkpoints.finish()

    def _note_damage(self) -> None:
        """Keep for the result which checkpoints were passed over, and why."""
        problems = self.checkpoints.problems.items()
        self.warnings += [f"checkpoint {name} is damaged: {reason}" for name, reason in problems]

    def _resume(self) -> Progress:
        """Load the newest checkpoint where one is wanted and there."""
        order = order_of(self.config, self.info, world_size=self.ranks.world_size)
        path = self.checkpoints.last() if self.config.resume else None
        if path is None:
            if self.config.warm_start is not None:
                warm_start(self.model, self.config, self.info, self.plan, self.ranks)
            return Progress(order=order)
        self.ranks.from_first(lambda: check_same_tables(self.plan, self.config.sizing, path))
        self._note_damage()
        self.checkpoints.set_aside()
        progress = self.checkpoints.load(self.model, self.optimizer, path)
        check_order(progress, order, path)
        if (learned := progress.order["data_sha256"]) != order["data_sha256"]:
            seen = self.config.resume_data or self.folder.read_config().data
            self.ranks.from_first(
                lambda: check_same_ids(seen, self.config.data, self.plan.fields, old_sha256=learned)
            )
        progress.order = order
        return progress

    def _result(
        self, split: Split, scores: dict[str, float], *, stopped_by: str | None = None
    ) -> TrainResult:
        return TrainResult(
            steps=self.progress.step,
            best_step=self.progress.best_step,
            split=split,
            scores=scores,
            examples_per_second=self.reporter.examples_per_second,
            stopped_by=stopped_by,
            rank=self.ranks.rank,
            warnings=tuple(self.warnings),
        )
