"""What Prometheus is told: latency per route, errors, event-loop lag, and what other parts measure.

The parts below `http/` know nothing of Prometheus: they keep a `Histogram` or can be asked for a
number; `app.py` names them here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from homeserver.histogram import Histogram
from homeserver.http.router import Route

CONTENT_TYPE = CONTENT_TYPE_LATEST
LAG_PERIOD = 1.0
MAX_ERRCODES = 200


class Metrics(Collector):
    """Everything that is measured in this process."""

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}
        self.open_requests = 0
        self._routes: list[Route] = []
        self._histograms: list[tuple[str, str, Histogram]] = []
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._lag = Histogram()
        self.histogram("homeserver_event_loop_lag_seconds", "How late a timer fires", self._lag)
        self.gauge("homeserver_http_open_requests", "In work", lambda: self.open_requests)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def routes(self, routes: Iterable[Route]) -> None:
        """Show the latency of these routes."""
        self._routes.extend(routes)

    def histogram(self, name: str, help_text: str, histogram: Histogram) -> None:
        """Show a histogram that another part keeps."""
        self._histograms.append((name, help_text, histogram))

    def gauge(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Show a number that another part can be asked for."""
        self._gauges.append((name, help_text, value))

    def count_error(self, errcode: str) -> None:
        """One more answer with this errcode; other servers may have made up new ones."""
        if errcode not in self.errors and len(self.errors) >= MAX_ERRCODES:
            errcode = "other"
        self.errors[errcode] = self.errors.get(errcode, 0) + 1

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        for gauge_name, gauge_help, value in self._gauges:
            yield GaugeMetricFamily(gauge_name, gauge_help, value=value())
        for name, help_text, histogram in self._histograms:
            family = HistogramMetricFamily(name, help_text)
            family.add_metric([], histogram.cumulative(), histogram.total)
            yield family
        yield self._errors_family()
        yield self._routes_family()

    def _errors_family(self) -> Metric:
        family = CounterMetricFamily(
            "homeserver_http_errors", "Answers with an error", labels=["errcode"]
        )
        for errcode, count in self.errors.items():
            family.add_metric([errcode], count)
        return family

    def _routes_family(self) -> Metric:
        family = HistogramMetricFamily(
            "homeserver_http_request_seconds", "Latency per route", labels=["method", "route"]
        )
        for route in self._routes:
            if any(route.seconds.counts):
                labels = [route.declaration.method, route.declaration.paths[-1]]
                family.add_metric(labels, route.seconds.cumulative(), route.seconds.total)
        return family

    async def watch_event_loop(self) -> None:
        """Measure, until cancelled, how much later than asked for the event loop runs a timer."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PERIOD
            await asyncio.sleep(LAG_PERIOD)
            self._lag.observe(max(0.0, loop.time() - due))
