"""Ports that nobody listens at, for tests that start servers."""

import socket
from contextlib import ExitStack


def free_ports(num: int = 1) -> int:
    """A port that is free, and so are the next ones."""
    while True:
        with ExitStack() as open_:
            first = 0
            try:
                for place in range(num):
                    server = open_.enter_context(socket.socket())
                    server.bind(("127.0.0.1", first and first + place))
                    first = first or int(server.getsockname()[1])
            except (OSError, OverflowError):
                continue
            return first
