"""Ports that nobody listens at, for tests that start servers."""

import random
import socket
from contextlib import ExitStack

FIRST, LAST = 20_000, 32_000
"""Below the ports that Linux gives to outgoing connections, one of which may come in between."""


def free_ports(num: int = 1) -> int:
    """A port that is free, and so are the next ones."""
    while True:
        first = random.SystemRandom().randrange(FIRST, LAST)
        with ExitStack() as open_:
            try:
                for port in range(first, first + num):
                    open_.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
