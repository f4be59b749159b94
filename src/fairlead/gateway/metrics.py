"""What the gateway counts and measures, for Prometheus.

A registry of its own: two gateways in one process do not meet, and nothing of the host program's is published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fairlead.rooms.hub import Hub

LAG_INTERVAL: Final = 0.5
"""Seconds between two looks at the event loop's lag; 100 ms of standstill are seen by every fifth or better."""

_HANDSHAKE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
_LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """One gateway's figures.

    Attributes:
        connections: Open connections; up and down with each.
        publications: Rooms that triggers taken here published to.
        slow_closes: Connections closed because the client read too slowly.
        asks: Asks of the API, by ``outcome``: in, unauthorized, forbidden, unavailable, cancelled.
        ask_seconds: How long they took, waiting for a place included.
        handshake_seconds: From the upgrade request to its answer.
        loop_lag: How late the event loop runs what is due.
    """

    def __init__(self) -> None:
        self.registry: Final = CollectorRegistry()
        self.connections: Final = Gauge("fairlead_connections", "Open connections", registry=self.registry)
        self.publications: Final = Counter(
            "fairlead_publications", "Rooms published to by triggers taken here", registry=self.registry
        )
        self.slow_closes: Final = Counter(
            "fairlead_slow_closes", "Connections closed because the client read too slowly", registry=self.registry
        )
        self.asks: Final = Counter(
            "fairlead_asks", "Asks of the API, by how they ended", ["outcome"], registry=self.registry
        )
        self.ask_seconds: Final = self._histogram(
            "fairlead_ask_seconds", "Time of an ask, waiting for a place included"
        )
        self.handshake_seconds: Final = self._histogram(
            "fairlead_handshake_seconds", "Time from the upgrade request to its answer"
        )
        self.loop_lag: Final = Histogram(
            "fairlead_loop_lag_seconds", "Lateness of the event loop", buckets=_LAG_BUCKETS, registry=self.registry
        )
        ProcessCollector(registry=self.registry)

    def watch_hub(self, hub: Hub) -> None:
        """Publish a hub's rooms and deliveries, read when they are asked for."""
        self.registry.register(_HubCollector(hub))

    def watch_loop(self) -> Callable[[], None]:
        """Measure the running event loop's lag until the returned function is called."""
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle

        def look(due: float) -> None:
            nonlocal handle
            now = loop.time()
            self.loop_lag.observe(max(0.0, now - due))
            handle = loop.call_at(now + LAG_INTERVAL, look, now + LAG_INTERVAL)

        first = loop.time() + LAG_INTERVAL
        handle = loop.call_at(first, look, first)
        return lambda: handle.cancel()

    def asked(self, outcome: str, seconds: float) -> None:
        """Note an ask of the API; made to be Upstream's observer."""
        self.asks.labels(outcome).inc()
        self.ask_seconds.observe(seconds)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, documentation: str) -> Histogram:
        return Histogram(name, documentation, buckets=_HANDSHAKE_BUCKETS, registry=self.registry)


class _HubCollector(Collector):
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("fairlead_rooms", "Rooms with members on this node", value=len(self._hub))
        yield CounterMetricFamily(
            "fairlead_deliveries", "Publications written to members on this node", value=self._hub.deliveries
        )
