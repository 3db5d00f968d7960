"""Rows of several requests scored together: a batch costs little more than a row."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise

from service.metrics.serving import ServingMetrics
from service.serving.artifact import Artifact, BadRowsError
from service.serving.json_rows import JsonRow


class BusyError(Exception):
    """More rows wait than may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """How rows are brought together."""

    max_rows: int = 1024
    """Rows of a batch; a request may have no more."""

    max_wait_seconds: float = 0.002
    """How long the first row of a batch waits for others."""

    max_waiting_rows: int = 16_384
    """Rows that may wait; further requests are told to come again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Predictions of a request, and the version that they are of."""

    predictions: list[float]
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    rows: Sequence[JsonRow]
    answer: "asyncio.Future[Answer]"


class Batcher:
    """Collects requests and scores them in a thread, a batch at a time.

    Args:
        model: The artifact to score with, asked for at every batch.
        limits: How many rows.
        metrics: What is counted.
    """

    def __init__(
        self, model: Callable[[], Artifact], limits: BatchLimits, metrics: ServingMetrics
    ) -> None:
        self._model, self._limits, self._metrics = model, limits, metrics
        self._waiting: deque[_Request] = deque()
        self._num_waiting = 0
        self._has_some, self._is_full = asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")

    async def predict(self, rows: Sequence[JsonRow]) -> Answer:
        """Score rows among those of others.

        Raises:
            BadRowsError: If a row is no good; the others' are scored all the same.
            BusyError: If too many rows wait.
        """
        if self._num_waiting + len(rows) > self._limits.max_waiting_rows:
            raise BusyError
        request = _Request(rows=rows, answer=asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._count(len(rows))
        self._has_some.set()
        if self._num_waiting >= self._limits.max_rows:
            self._is_full.set()
        return await request.answer

    async def run(self) -> None:
        """Score what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_some.wait()
            if self._num_waiting < self._limits.max_rows:
                await self._wait_for_more()
            batch = self._take()
            results = await loop.run_in_executor(self._thread, self._scored, batch)
            for request, result in zip(batch, results, strict=True):
                if request.answer.done():  # whoever asked has gone
                    continue
                if isinstance(result, Answer):
                    request.answer.set_result(result)
                else:
                    request.answer.set_exception(result)

    async def _wait_for_more(self) -> None:
        try:
            await asyncio.wait_for(self._is_full.wait(), self._limits.max_wait_seconds)
        except TimeoutError:
            return

    def _take(self) -> list[_Request]:
        """Requests of a batch, in the order in which they came; at least one."""
        batch: list[_Request] = []
        num_rows = 0
        while self._waiting:
            rows = len(self._waiting[0].rows)
            if batch and num_rows + rows > self._limits.max_rows:
                break
            batch.append(self._waiting.popleft())
            num_rows += rows
        self._count(-num_rows)
        if self._num_waiting < self._limits.max_rows:
            self._is_full.clear()
        if not self._waiting:
            self._has_some.clear()
        return batch

    def _count(self, rows: int) -> None:
        self._num_waiting += rows
        self._metrics.waiting_rows.set(self._num_waiting)

    def _scored(self, batch: Sequence[_Request]) -> list[Answer | Exception]:
        """An answer a request; in a thread of its own."""
        try:
            return self._score(batch)
        except Exception as error:  # one of the outermost edges: the loop must go on
            return [error] * len(batch)

    def _score(self, batch: Sequence[_Request]) -> list[Answer | Exception]:
        start = time.perf_counter()
        artifact = self._model()
        encoded = artifact.encode([row for request in batch for row in request.rows])
        predictions = artifact.score(encoded.columns)
        ends = [0, *accumulate(len(request.rows) for request in batch)]
        results: list[Answer | Exception] = []
        for first, end in pairwise(ends):
            bad = {
                row - first: reason for row, reason in encoded.faults.items() if first <= row < end
            }
            own = predictions[first:end].tolist()
            version = artifact.manifest.version
            results.append(BadRowsError(bad) if bad else Answer(predictions=own, version=version))
        answers = [result for result in results if isinstance(result, Answer)]
        self._metrics.rows.inc(sum(len(answer.predictions) for answer in answers))
        self._metrics.predictions.inc(max(0.0, sum(sum(a.predictions) for a in answers)))
        self._metrics.bad_rows.inc(len(encoded.faults))
        self._metrics.count_unknown(artifact.num_unknown(encoded.columns))
        self._metrics.batch_rows.observe(ends[-1])
        self._metrics.batch_seconds.observe(time.perf_counter() - start)
        return results
