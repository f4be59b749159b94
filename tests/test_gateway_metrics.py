"""What Prometheus is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.values import MultiProcessValue

from fairlead.gateway import metrics as module
from fairlead.gateway.metrics import Metrics
from fairlead.message import Publication
from fairlead.rooms.hub import Hub
from fairlead.rooms.names import room_key
from fairlead.testing import FakeMember


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_two_gateways_in_one_process_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.asked("in", 0.1)
    assert value(one, "fairlead_asks_total", outcome="in") == 1
    assert value(other, "fairlead_asks_total", outcome="in") is None


def test_a_hub_is_read_when_it_is_asked_for() -> None:
    metrics, hub = Metrics(), Hub()
    metrics.watch_hub(hub)
    assert (value(metrics, "fairlead_rooms"), value(metrics, "fairlead_deliveries_total")) == (0, 0)
    hub.add(FakeMember(), room_key("a"))
    hub.add(FakeMember(), room_key("a"))
    hub.publish(room_key("a"), Publication(data=b"1"))
    hub.flush()
    assert (value(metrics, "fairlead_rooms"), value(metrics, "fairlead_deliveries_total")) == (1, 2)


def test_times_are_counted_up_to_each_bound_and_beyond() -> None:
    metrics = Metrics()
    for seconds in (0.005, 0.0051, 3.0, 99.0):
        metrics.handshake_seconds.observe(seconds)
    name = "fairlead_handshake_seconds"
    at_most = [value(metrics, f"{name}_bucket", le=le) for le in ("0.005", "0.01", "2.5", "5.0", "15.0", "+Inf")]
    assert at_most == [1, 2, 2, 3, 3, 4]
    assert value(metrics, f"{name}_count") == 4
    assert value(metrics, f"{name}_sum") == pytest.approx(102.0101)


def test_another_programs_directory_for_shared_counters_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr("prometheus_client.values.ValueClass", MultiProcessValue())  # type: ignore[no-untyped-call]
    metrics = Metrics()
    metrics.asked("in", 0.1)
    metrics.slow_closes += 1
    assert value(metrics, "fairlead_asks_total", outcome="in") == 1
    assert b"\nfairlead_slow_closes_total 1.0\n" in metrics.text()
    assert list(tmp_path.iterdir()) == []


def test_the_text_holds_every_figure() -> None:
    metrics = Metrics()
    metrics.watch_hub(Hub())
    metrics.watch("fairlead_connections", "Open connections", lambda: 3)
    text = metrics.text().decode()
    for name in ("connections", "rooms", "publications_total", "deliveries_total", "slow_closes_total", "asks_total"):
        assert f"# HELP fairlead_{name.removesuffix('_total')}" in text
    assert "\nfairlead_connections 3.0\n" in text
    for name in ("ask_seconds", "handshake_seconds", "loop_lag_seconds"):
        assert f"fairlead_{name}_bucket" in text


async def test_a_loop_that_stands_still_is_seen_until_the_watch_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAG_INTERVAL", 0.001)
    metrics, loop = Metrics(), asyncio.get_running_loop()
    stop = metrics.watch_loop()
    until = loop.time() + 0.03
    while loop.time() < until:
        pass
    seen = asyncio.Event()
    loop.call_later(0.002, seen.set)
    await seen.wait()
    stop()
    assert (value(metrics, "fairlead_loop_lag_seconds_sum") or 0) > 0.02
    counted = value(metrics, "fairlead_loop_lag_seconds_count")
    ended = asyncio.Event()
    loop.call_later(0.005, ended.set)
    await ended.wait()
    assert value(metrics, "fairlead_loop_lag_seconds_count") == counted
