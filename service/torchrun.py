"""``python -m service.torchrun ...``: torchrun that ends the way its first failed rank did.

torchrun itself ends with 1 whatever happened, so a scheduler would try rejected input again, and
would take a job that was told to stop for one that failed.
"""

import logging
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from service.job import EXIT_LOST

EXIT_SIGNALLED = 128
"""Exit code of a process that a signal ended, less the signal: the shell's way."""

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run torchrun with its own flags; return the exit code of the rank that failed first."""
    try:
        run(parse_args(argv))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code: int = failure.exitcode
        logger.error("rank %d ended with exit code %d", rank, code)
        return code if code > 0 else EXIT_SIGNALLED - code if code else EXIT_LOST
    except SignalException as error:
        return EXIT_SIGNALLED + int(error.sigval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
