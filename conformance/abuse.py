"""Hostile and unlucky clients: when the server lets go of them, with which close code, and what they cost it.

    python -m conformance.abuse --setup uvloop

The server has its default limits. Clients that wait share one server and run all at once; each flood has a server of
its own, and the growth is that of its resident memory at the worst moment, as the kernel counts it. It takes about a
minute: the longest wait is that for a pong, 45 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from conformance.client import NO_CLOSE, Client, Ending, frame
from conformance.floods import FLOODS, Flood
from conformance.patience import PATIENCE, Wait
from conformance.setups import ROOT, SETUPS, NotRun, Running, serving

CHOICES = tuple(setup for setup in SETUPS if setup != "nginx")
"""Behind nginx most of these clients would meet nginx's limits and not ours."""

ENVIRONMENT = {"FORWARDED_ALLOW_IPS": "*", "WEB_CONCURRENCY": "4"}
"""What uvicorn reads from the environment: to believe any client's word on its address, and to run four processes."""

SPOOFED = (
    "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: other.invalid\r\n"
    "X-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1;proto=https\r\n"
)

LEFT_TIME = 10.0
"""Seconds after the last client in which all its descriptors must be free again."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result.

    Attributes:
        ending: How the client's connection ended, where that is asked.
        growth: Bytes the server grew by, where that is asked.
        fault: What is wrong; empty if nothing is.
        not_run: Why it was not run; empty if it was.
    """

    setup: str
    name: str
    ending: Ending | None = None
    growth: int | None = None
    fault: str = ""
    not_run: str = ""

    def __str__(self) -> str:
        seconds = f"{self.ending.seconds:.1f} s".replace("inf s", "stays") if self.ending else ""
        code = str(self.ending.code) if self.ending and self.ending.code != NO_CLOSE else ""
        growth = "" if self.growth is None else f"+{self.growth / 2**20:.2f} MiB"
        verdict = f"WRONG: {self.fault}" if self.fault else f"not run: {self.not_run}" if self.not_run else "ok"
        return f"{self.setup:8} {self.name:40} {seconds:>7} {code:>5} {growth:>11}  {verdict}"


# -- clients that wait -------------------------------------------------------------------------------------------------


async def wait_all(servers: dict[str, Running], only: str) -> list[Row]:
    """Play every waiting client in every set-up at once."""
    before = {setup: running.sockets() for setup, running in servers.items()}
    rows = await asyncio.gather(
        *(
            _wait(setup, wait, running)
            for setup, running in servers.items()
            for wait in PATIENCE
            if only in wait.name and wait.tls in (None, running.address.tls)
        )
    )
    return [*rows, *[await _left(setup, running, before[setup]) for setup, running in servers.items()]]


async def _wait(setup: str, wait: Wait, running: Running) -> Row:
    try:
        ending = await wait.play(running.address)
    except OSError as exc:
        return Row(setup, wait.name, fault=f"the connection broke: {exc!r}")
    fault = ""
    if not wait.least <= ending.seconds <= wait.most:
        fault = f"expected {wait.least} to {wait.most} s"
    elif ending.code not in wait.codes:
        fault = f"expected {wait.codes}"
    return Row(setup, wait.name, ending, fault=fault)


async def _left(setup: str, running: Running, before: set[str]) -> Row:
    """When all clients are gone, so are their sockets."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while (left := running.sockets() - before) and loop.time() < started + LEFT_TIME:
        await asyncio.sleep(0.1)
    return Row(setup, "sockets left when all are gone", fault=f"{len(left)} are still open" if left else "")


# -- clients that send too much ----------------------------------------------------------------------------------------


def flood_all(setups: Sequence[str], only: str) -> Iterator[Row]:
    """Play every flood in every set-up, one after the other."""
    for setup in setups:
        for flood in FLOODS:
            if only in flood.name:
                yield _flood(setup, flood)


def _flood(setup: str, flood: Flood) -> Row:
    try:
        with serving(setup, *flood.options) as running:
            ending, growth = asyncio.run(_measure(flood, running))
    except NotRun as missing:
        return Row(setup, flood.name, not_run=str(missing))
    except (OSError, TimeoutError) as exc:
        return Row(setup, flood.name, fault=f"the connection broke: {exc!r}")
    fault = ""
    bound = flood.bound(tls=running.address.tls)
    if growth > bound:
        fault = f"expected {bound / 2**20:.2f} MiB at most"
    elif flood.most is not None and ending.seconds > flood.most:
        fault = f"expected {flood.most} s at most"
    elif ending.code not in flood.codes:
        fault = f"expected {tuple(flood.codes)}"
    return Row(setup, flood.name, ending if flood.most is not None else None, growth, fault=fault)


async def _measure(flood: Flood, running: Running) -> tuple[Ending, int]:
    client = await Client.open(running.address)  # what every server loads and keeps once is no growth
    client.send(frame(0x1, b"warm"))
    await client.read()
    client.abandon()
    before = running.resident()
    ending = await flood.play(running.address)
    return ending, running.peak() - before


# -- the rest ----------------------------------------------------------------------------------------------------------


def vanish() -> list[Row]:
    """Clients that are gone without a packet, in a network namespace of their own."""
    apart = ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None:
        return [Row("uvloop", "vanished clients", not_run="there is no unshare command (Debian: util-linux)")]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        return [Row("uvloop", "vanished clients", not_run="network namespaces are not allowed here")]
    command = [*apart, sys.executable, "-m", "conformance.vanished"]
    finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(finished.stdout)
    bounds = {"idle": (45.0, 47.0), "sent to": (0.0, 15.0)}
    rows = []
    for kind, (least, most) in bounds.items():
        seconds = figures.get(kind, float("inf"))
        fault = "" if least <= seconds <= most else f"expected {least} to {most} s"
        rows.append(Row("uvloop", f"vanished clients, {kind}", Ending(seconds), fault=fault))
    return rows


def environment() -> Row:
    """uvicorn's environment variables change nothing, and forwarding headers are believed from nobody."""
    name = "uvicorn's environment variables"
    with serving("uvloop") as plain, serving("uvloop", environ=ENVIRONMENT) as moved:
        answers = [asyncio.run(_scope(running)) for running in (plain, moved)]
        children = moved.children()
    if children:
        return Row("uvloop", name, fault=f"{len(children)} child processes")
    if answers[0] != answers[1] or answers[0] != {"client": "127.0.0.1", "scheme": "http"}:
        return Row("uvloop", name, fault=f"the application saw {answers}")
    return Row("uvloop", name)


async def _scope(running: Running) -> dict[str, str]:
    client = await Client.connect(running.address)
    client.send(f"GET /scope HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{SPOOFED}\r\n".encode())
    await client.ending(seconds=5.0)
    scope = json.loads(client.received.rpartition(b"\r\n\r\n")[2])
    return {"client": scope["client"][0], "scheme": scope["scheme"]}


def run(setups: Sequence[str], only: str = "") -> list[Row]:
    """Run the suite.

    Args:
        setups: Of ``CHOICES``.
        only: Run what has this in its name.
    """
    rows: list[Row] = []
    servers: dict[str, Running] = {}
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        for setup in setups:
            try:
                servers[setup] = stack.enter_context(serving(setup))
            except NotRun as missing:
                rows.append(Row(setup, "all of them", not_run=str(missing)))
        waiting = pool.submit(lambda: asyncio.run(wait_all(servers, only)))
        vanishing = pool.submit(vanish) if only in "vanished clients" else None
        rows += [environment()] if only in "environment" else []
        rows += flood_all(list(servers), only)
        return [*waiting.result(), *(vanishing.result() if vanishing else []), *rows]


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.abuse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--setup", action="append", choices=CHOICES, help="default: uvloop and tls; may be repeated")
    parser.add_argument("--only", default="", metavar="TEXT", help="what has this in its name")
    arguments = parser.parse_args(words)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it warns of clients that behave like these
    rows = run(arguments.setup or ("uvloop", "tls"), arguments.only)
    print(f"{'set-up':8} {'client':40} {'closed':>7} {'code':>5} {'growth':>11}")
    for row in rows:
        print(row)
    return 1 if any(row.fault for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
