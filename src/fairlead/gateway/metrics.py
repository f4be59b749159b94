"""What the gateway counts and measures, for Prometheus.

A registry of its own: two gateways in one process do not meet, and nothing of the host program's is published. The
figures are plain numbers of one event loop, read when they are asked for: prometheus_client's own counters would go to
files that processes share, wherever PROMETHEUS_MULTIPROC_DIR is set for some other program's sake.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fairlead.rooms.hub import Hub

LAG_INTERVAL: Final = 0.5
"""Seconds between two looks at the event loop's lag; 100 ms of standstill are seen by every fifth or better."""

_HANDSHAKE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
_LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics(Collector):
    """One gateway's figures.

    Attributes:
        publications: Rooms that triggers taken here published to.
        slow_closes: Connections closed because the client read too slowly.
        handshake_seconds: From the upgrade request to its answer.
    """

    def __init__(self) -> None:
        self.publications = 0
        self.slow_closes = 0
        self.handshake_seconds: Final = Histogram(
            "fairlead_handshake_seconds", "Time from the upgrade request to its answer", _HANDSHAKE_BUCKETS
        )
        self._ask_seconds: Final = Histogram(
            "fairlead_ask_seconds", "Time of an ask, waiting for a place included", _HANDSHAKE_BUCKETS
        )
        self._loop_lag: Final = Histogram("fairlead_loop_lag_seconds", "Lateness of the event loop", _LAG_BUCKETS)
        self._asks: Final[Counter[str]] = Counter()
        self._sources: Final[list[Callable[[], Metric]]] = [
            self._asks_family,
            self.handshake_seconds.family,
            self._ask_seconds.family,
            self._loop_lag.family,
        ]
        self.watch_count(
            "fairlead_publications", "Rooms published to by triggers taken here", lambda: self.publications
        )
        self.watch_count(
            "fairlead_slow_closes", "Connections closed because the client read too slowly", lambda: self.slow_closes
        )
        self.registry: Final = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def watch(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Publish a figure that goes up and down."""
        self._sources.append(lambda: GaugeMetricFamily(name, documentation, value=read()))

    def watch_count(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        """Publish a figure that only grows, as ``name`` with ``_total`` behind it."""
        self._sources.append(lambda: CounterMetricFamily(name, documentation, value=read()))

    def watch_hub(self, hub: Hub) -> None:
        """Publish a hub's rooms and deliveries."""
        self.watch("fairlead_rooms", "Rooms with members on this node", lambda: len(hub))
        self.watch_count("fairlead_deliveries", "Publications written to members on this node", lambda: hub.deliveries)

    def watch_loop(self) -> Callable[[], None]:
        """Measure the running event loop's lag until the returned function is called."""
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle

        def look(due: float) -> None:
            nonlocal handle
            now = loop.time()
            self._loop_lag.observe(max(0.0, now - due))
            handle = loop.call_at(now + LAG_INTERVAL, look, now + LAG_INTERVAL)

        first = loop.time() + LAG_INTERVAL
        handle = loop.call_at(first, look, first)
        return lambda: handle.cancel()

    def asked(self, outcome: str, seconds: float) -> None:
        """Note an ask of the API; made to be Upstream's observer."""
        self._asks[outcome] += 1
        self._ask_seconds.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Everything, for the registry."""
        for source in self._sources:
            yield source()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _asks_family(self) -> Metric:
        family = CounterMetricFamily("fairlead_asks", "Asks of the API, by how they ended", labels=["outcome"])
        for outcome, count in self._asks.items():
            family.add_metric([outcome], count)
        return family


class Histogram:
    """How often a time was at most so long, for each of some bounds in seconds."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Note one time."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def family(self) -> Metric:
        """What there is now."""
        family = HistogramMetricFamily(self._name, self._documentation)
        bounds = [*map(str, self._bounds), "+Inf"]
        family.add_metric([], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum)
        return family
