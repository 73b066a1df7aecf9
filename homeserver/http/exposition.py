"""Tells Prometheus what is measured: the only file that knows its library, imported when asked."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from homeserver.http.metrics import Metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST


def exposition(metrics: Metrics) -> bytes:
    """The text that Prometheus reads: ours, then the process's."""
    registry = CollectorRegistry()
    registry.register(_Measured(metrics))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return generate_latest(registry)


class _Measured(Collector):
    """What a `Metrics` has, in Prometheus's form."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for gauge_name, gauge_help, value in self._metrics.all_gauges:
            yield GaugeMetricFamily(gauge_name, gauge_help, value=value())
        for name, help_text, histogram in self._metrics.all_histograms:
            family = HistogramMetricFamily(name, help_text)
            family.add_metric([], histogram.cumulative(), histogram.total)
            yield family
        yield self._errors()
        yield self._routes()

    def _errors(self) -> Metric:
        family = CounterMetricFamily(
            "homeserver_http_errors", "Answers with an error", labels=["errcode"]
        )
        for errcode, count in self._metrics.errors.items():
            family.add_metric([errcode], count)
        return family

    def _routes(self) -> Metric:
        family = HistogramMetricFamily(
            "homeserver_http_request_seconds", "Latency per route", labels=["method", "route"]
        )
        for route in self._metrics.all_routes:
            if any(route.seconds.counts):
                labels = [route.declaration.method, route.declaration.paths[-1]]
                family.add_metric(labels, route.seconds.cumulative(), route.seconds.total)
        return family
