"""What Prometheus is told: how much is done and waits, by route and status; no text, no name that a client gives.

The numbers are of one server, in a registry of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from steercpp.serving.scheduler import Scheduler

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class _Work(Collector):
    """What a scheduler has done and has to do, read when it is asked for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def collect(self) -> Iterator[Metric]:
        """The numbers now."""
        work = self._scheduler.work
        for name, help, value in (
            ("steercpp_prompt_tokens", "Tokens of prompts of texts that are done.", work.n_prompt),
            ("steercpp_cached_prompt_tokens", "Those of them that were there from another text.", work.n_cached),
            ("steercpp_generated_tokens", "Tokens drawn of texts that are done.", work.n_drawn),
            ("steercpp_token_layers", "Tokens times blocks computed.", work.token_layers),
            ("steercpp_steps", "Steps of the pool of rows.", work.n_steps),
        ):
            yield CounterMetricFamily(name, help, value=value)
        yield GaugeMetricFamily("steercpp_rows_in_work", "Texts that are decoded now.", value=work.in_work)
        yield GaugeMetricFamily("steercpp_rows_waiting", "Texts that wait for a row.", value=work.waiting)
        yield GaugeMetricFamily(
            "steercpp_rows", "Texts that are decoded at once at most.", value=self._scheduler.n_rows
        )


class Metrics:
    """Counts requests, and writes all numbers in Prometheus's text format.

    Args:
        scheduler: whose work is told.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Work(scheduler))
        ProcessCollector(registry=self._registry)
        labels = ("route", "status")
        self._requests = Counter("steercpp_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "steercpp_request_seconds", "Seconds that a request took, streaming included.", ("route",),
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip

    def count(self, route: str, status: int, seconds: float) -> None:
        """Note that a request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All numbers now."""
        return generate_latest(self._registry)
