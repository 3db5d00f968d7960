"""The version that is served now, and the next one when there is one.

A new version is loaded beside the old one, which answers until then; requests that are being
scored keep the version that they began with, so that none is dropped. A version that cannot be
loaded is refused, and the old one stays.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from service.metrics.serving import ServingMetrics
from service.serving.artifact import Artifact, load
from service.serving.manifest import MANIFEST_FILE

logger = logging.getLogger(__name__)

Print = tuple[str, int, int] | None
"""What tells one version on disk from another; None where there is none."""


class CurrentModel:
    """An artifact by its path, which may come to mean another one.

    Args:
        path: Folder of the artifact, or a link to it.
        load_from: Reads one.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        load_from: Callable[[Path], Artifact] = load,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._load, self._clock = path, load_from, clock
        self._seen = self._print()
        self.artifact = load_from(path)
        self._metrics: ServingMetrics | None = None

    def tell(self, metrics: ServingMetrics) -> None:
        """Say from now on what is served."""
        self._metrics = metrics
        self._show()

    async def watch(self, poll_seconds: float, asked: asyncio.Event) -> None:
        """Take new versions when the path means another one, or when asked to; until cancelled.

        Args:
            poll_seconds: Time between two looks at the path.
            asked: Set by whoever wants it looked at now, changed or not.
        """
        while True:
            try:
                await asyncio.wait_for(asked.wait(), poll_seconds)
            except TimeoutError:
                if self._print() == self._seen:
                    continue
            asked.clear()
            await self.reload()

    async def reload(self) -> bool:
        """Load what the path means now; whether it is served from now on."""
        self._seen = self._print()
        try:
            artifact = await asyncio.to_thread(self._load, self._path)
        except Exception as error:  # an outermost edge: libraries raise what they like of a file
            logger.warning("kept version %s: %s", self.artifact.manifest.version, error)
            self._count("refused")
            return False
        before, self.artifact = self.artifact.manifest.version, artifact
        logger.info("version %s takes the place of %s", artifact.manifest.version, before)
        self._count("taken")
        self._show()
        return True

    def _print(self) -> Print:
        """Which version is on disk."""
        try:
            manifest = (self._path / MANIFEST_FILE).resolve()
            status = manifest.stat()
        except OSError:
            return None
        return str(manifest), status.st_ino, status.st_mtime_ns

    def _count(self, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.reloads.labels(outcome=outcome).inc()

    def _show(self) -> None:
        if self._metrics is not None:
            served = self.artifact.manifest
            self._metrics.show_model(
                name=served.name, version=served.version, dtype=served.dtype, at=self._clock()
            )
