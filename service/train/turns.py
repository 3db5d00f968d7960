"""Whose turn it is to learn, weights or architecture, and from which batch."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models.turn import Turn, announce
from service.checkpoint import Progress
from service.checkpoint.optimizer_state import fused_kernels
from service.config import TrainConfig
from service.data.batch import Batch
from service.data.loader import Loader
from service.train.optimizers import Optimizers
from service.train.run_data import RunData
from service.train.second_order import LookAhead
from service.train.task import StepOutput

Pipeline = TrainPipelineSparseDist[Batch, StepOutput]


class Turns:
    """The steps of a run whose embeddings may have an architecture to learn.

    A step is one of the weights, and where one is due after it, one of the architecture, on a batch
    of the split that it learns from. Which batch that is follows from the number of the step alone,
    so that a run that is resumed anywhere reads and does what an undisturbed one would.

    Args:
        config: The run; says when the architecture moves.
        data: Gives the batches.
        model: A sharded `TrainTask`.
        optimizer: Of all weights.
        device: Where batches go.

    Raises:
        ValueError: If the split that the architecture learns from is empty, or it is to look ahead
            of tables that move by themselves.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: RunData,
        model: nn.Module,
        optimizer: Optimizers,
        device: torch.device,
    ) -> None:
        self._seed, self._train = config.seed, data.train
        self._model, self._optimizer = model, optimizer
        self._alternation = alternation = config.embeddings.alternation
        self._kernels = {id(kernel): kernel for kernel in fused_kernels(model).values()}
        self._other: Loader | None = None
        self._ahead: LookAhead | None = None
        self._pairs: deque[tuple[Batch, Batch]] = deque()
        """Where the architecture looks ahead, the batches that it does it by, as they are read."""
        if alternation is not None and alternation.split != "train":
            if not data.has_rows(alternation.split):
                raise ValueError(
                    f"split {alternation.split!r} of {config.data} has no rows, and the "
                    f"architecture of {config.embeddings.kind} learns from it; prepare the data "
                    f"with one, or give alternation.split = 'train'"
                )
            self._other = data.loader(alternation.split, is_shuffled=config.shuffle)
            if step_size := alternation.step_size:
                self._ahead = LookAhead(model, optimizer, step_size=step_size, device=device)

    def batches(self, progress: Progress) -> Iterator[Batch]:
        """The rest of an epoch: batches of the training split, and what falls due between them."""
        numbered = enumerate(
            self._train.batches(progress.epoch, first_batch=progress.batch), progress.batch
        )
        step, num_examples = progress.step, progress.num_examples
        others: Iterator[Batch] = iter(())
        for number, batch in numbered:
            step += 1
            num_examples += self._train.size_of_batch(number)
            if not self._is_due(step, num_examples):
                yield batch
                continue
            other = next(others, None)
            if other is None:
                others = self._others(step)
                other = next(others)
            if self._ahead is not None:
                self._pairs.append((batch, other))
            yield batch
            if self._ahead is None:
                yield other

    def step(self, pipeline: Pipeline, batches: Iterator[Batch], progress: Progress) -> Tensor:
        """Move the weights, and the architecture where it is due; the loss of the training batch.

        Raises:
            StopIteration: If the epoch has no more batches.
        """
        alternation, step, num_examples = self._alternation, progress.step, progress.num_examples
        self._take(
            Turn(
                moves_architecture=alternation is not None and alternation.is_joint(num_examples),
                step=step,
                num_examples=num_examples,
                seed=self._seed,
            )
        )
        loss, _, _ = pipeline.progress(batches)
        num_examples += self._train.size_of_batch(progress.batch)
        if self._is_due(step + 1, num_examples):
            turn = Turn(
                moves_weights=False,
                moves_architecture=True,
                is_regularised=False,
                step=step + 1,
                num_examples=num_examples,
                seed=self._seed,
            )
            self._move_architecture(turn, pipeline, batches)
            progress.num_architecture_examples += self._size_of_other(step + 1)
        return loss

    def _move_architecture(self, turn: Turn, pipeline: Pipeline, batches: Iterator[Batch]) -> None:
        if self._ahead is not None:
            self._look_ahead(turn, pipeline)
            return
        self._take(turn)
        with self._uncounted():
            try:
                pipeline.progress(batches)
            except StopIteration as error:
                raise RuntimeError(f"no batch for the architecture at step {turn.step}") from error

    def _look_ahead(self, turn: Turn, pipeline: Pipeline) -> None:
        assert self._ahead is not None
        pipeline.detach()  # else the model only answers to the pipeline
        self._ahead.differentiate(*self._pairs.popleft(), turn)
        self._take(turn)
        self._optimizer.step()

    def _is_due(self, step: int, num_examples: int) -> bool:
        return self._alternation is not None and self._alternation.is_due(step, num_examples)

    def _others(self, step: int) -> Iterator[Batch]:
        """Batches for the architecture to the end of their split, from that of a step on."""
        assert self._other is not None
        epoch, batch = self._place_of_other(step)
        return self._other.batches(epoch, first_batch=batch)

    def _size_of_other(self, step: int) -> int:
        assert self._other is not None
        return self._other.size_of_batch(self._place_of_other(step)[1])

    def _place_of_other(self, step: int) -> tuple[int, int]:
        """Epoch and batch that the architecture learns from after so many steps."""
        assert self._alternation is not None and self._other is not None
        return divmod(step // self._alternation.weight_steps - 1, len(self._other))

    def _take(self, turn: Turn) -> None:
        self._optimizer.turn = turn
        announce(turn, self._model)

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        """Keep the counters of fused Adam, which kernels move at every lookup, learning or not."""
        counters = [
            counter
            for kernel in self._kernels.values()
            for name in ("iter", "iter_cpu")
            if isinstance(counter := getattr(kernel, name, None), torch.Tensor)
        ]
        before = [counter.clone() for counter in counters]
        yield
        for counter, value in zip(counters, before, strict=True):
            counter.copy_(value)
