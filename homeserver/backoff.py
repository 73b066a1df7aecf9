"""How long what failed is left alone: twice as long with each failure, up to a limit."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct


class Backoff(Struct, frozen=True):
    """`first` and `longest` are waits in one unit; `chance` gives numbers from 0 to 1."""

    first: float
    longest: float
    chance: Callable[[], float] = random.random

    def after(self, failures: int) -> float:
        """The wait after so many failures in a row (1, 2, ...), in the unit of `first`.

        It varies by a fifth, so that what failed together isn't tried again together.
        """
        doubled = self.first * float(2 ** min(failures - 1, 30))
        return min(doubled, self.longest) * (0.8 + 0.4 * self.chance())
