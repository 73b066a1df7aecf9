"""What is measured: latency per route, errors, event-loop lag, and what other parts measure.

The parts below `http/` keep a `Histogram` or can be asked for a number; `app.py` names them here.
`exposition.py` tells Prometheus of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from homeserver.histogram import Histogram
from homeserver.http.router import Route

LAG_PERIOD = 1.0
MAX_ERRCODES = 200


class Metrics:
    """Everything that is measured in this process."""

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        self.open_requests = 0
        self.all_routes: list[Route] = []
        self.all_histograms: list[tuple[str, str, Histogram]] = []
        self.all_gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._lag = Histogram()
        self.histogram("homeserver_event_loop_lag_seconds", "How late a timer fires", self._lag)
        self.gauge("homeserver_http_open_requests", "In work", lambda: self.open_requests)

    def routes(self, routes: Iterable[Route]) -> None:
        """Show the latency of these routes."""
        self.all_routes.extend(routes)

    def histogram(self, name: str, help_text: str, histogram: Histogram) -> None:
        """Show a histogram that another part keeps."""
        self.all_histograms.append((name, help_text, histogram))

    def gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Show a number that another part can be asked for."""
        self.all_gauges.append((name, help_text, value))

    def count_error(self, errcode: str) -> None:
        """One more answer with this errcode; other servers may have made up new ones."""
        if errcode not in self.errors and len(self.errors) >= MAX_ERRCODES:
            errcode = "other"
        self.errors[errcode] = self.errors.get(errcode, 0) + 1

    async def watch_event_loop(self) -> None:
        """Measure, until cancelled, how much later than asked for the event loop runs a timer."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PERIOD
            await asyncio.sleep(LAG_PERIOD)
            self._lag.observe(max(0.0, loop.time() - due))
