"""The time, as the specification counts it. Whoever needs it takes a `Clock` as an argument."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Gives the milliseconds since the Unix epoch."""


def now_ms() -> int:
    """The milliseconds since the Unix epoch, by this machine's clock."""
    return time.time_ns() // 1_000_000
