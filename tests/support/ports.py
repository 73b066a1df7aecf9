"""Ports for servers that have to know theirs before they start."""

from __future__ import annotations

import random
import socket

RANGE = range(18_000, 32_000)
"""Below the ports that the system gives to connections: it won't take one of these meanwhile."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, chosen by chance."""
    for port in random.sample(RANGE, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("a hundred ports in a row are taken")


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
