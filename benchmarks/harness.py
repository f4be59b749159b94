"""What every benchmark here shares: start a server, measure what it alone used, compare systems fairly.

* CPU is what the kernel charged to the server's threads and to those of its children (``/proc/*/schedstat``,
  nanoseconds), from the start of the window to its end. The clients' own CPU is not in it.
* Every repeat runs on a freshly started server, and the systems take turns (A B C A B C ...), so that a noisy minute
  hurts all of them. Ratios are taken within each turn, and their median is printed.
* A repeat in which one message is missing, doubled or wrong ends the benchmark with an error.
* No server outlives the benchmark, however that ends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
START_TIMEOUT = 20.0
BUSY = 0.1
"""The share of the machine's CPU from which on other work visibly moves the figures."""
KEY = "a-key-for-benchmarks-only"
"""The API key of the gateway's admin listener while it is measured."""


class Server:
    """A running server process with its children.

    Args:
        process: The started process, leader of its own process group.
        port: The port clients connect to.
        admin: The port of the gateway's admin listener; 0 where there is none.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, admin: int = 0) -> None:
        self._process = process
        self.port = port
        self.admin = admin

    def cpu(self) -> float:
        """Seconds of CPU used so far by every thread that is alive."""
        total = 0
        for pid in self._pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self, field: str = "Pss") -> int:
        """Bytes, as ``smaps_rollup`` counts them: ``Pss`` (shared pages divided by their users) or ``Rss``."""
        total = 0
        for pid in self._pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(field + ":"):
                    total += int(line.split()[1]) * 1024
        return total

    def wait(self) -> None:
        """Wait until the listeners take connections.

        Raises:
            RuntimeError: The process ended or took too long.
        """
        deadline = time.monotonic() + START_TIMEOUT
        for port in filter(None, (self.port, self.admin)):
            while not _listens(port):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self._process.args!r} does not listen on port {port}")
                time.sleep(0.02)

    def stop(self) -> None:
        """End the process group at once; nothing measured needs its farewell."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _pids(self) -> list[int]:
        pids = [self._process.pid]
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
        return pids


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: Sequence[str], port: int, admin: int = 0) -> Iterator[Server]:
    """Run a server until the block ends; what it writes to stderr is shown if it does not start."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True, preexec_fn=_die_with_parent
        )
        server = Server(process, port, admin)
        try:
            server.wait()
            yield server
        except BaseException:
            errors.seek(0)
            sys.stderr.write(errors.read()[-4000:].decode(errors="replace"))
            raise
        finally:
            server.stop()


_prctl = ctypes.CDLL(None).prctl
_PR_SET_PDEATHSIG = 1  # prctl(2)


def _die_with_parent() -> None:
    """Have the kernel kill the server when this process is gone, also where it was killed and could not stop it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def script(call: str) -> Iterator[Server]:
    """Run one of the servers beside this file, on a free port that is put before its arguments.

    Args:
        call: The path from here and the further arguments, separated by spaces.
    """
    name, *arguments = call.split()
    port = free_port()
    with running([sys.executable, str(HERE / name), str(port), *arguments], port) as server:
        yield server


@contextlib.contextmanager
def gateway(upstream: int) -> Iterator[Server]:
    """Run ``fairlead gateway`` on free ports, asking the API on port ``upstream``.

    Everything is at its default, but no pings: the peers run without them too.
    """
    port, admin = free_port(), free_port()
    settings = (
        f"[server]\nport = {port}\n"
        f'[upstream]\nurl = "http://127.0.0.1:{upstream}/"\n'
        f'[api]\nport = {admin}\nkeys = ["{KEY}"]\n'
        "[limits]\nping_after = 3600.0\nping_timeout = 7200.0\n"
        '[log]\nlevel = "warning"\n'
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fairlead.toml"
        path.write_text(settings)
        with running([*GATEWAY, str(path)], port, admin) as server:
            yield server


GATEWAY = [str(Path(sys.executable).with_name("fairlead")), "gateway", "--config"]
"""The command that takes the settings file as its last argument."""


@dataclass(frozen=True)
class Subject:
    """One system in a comparison.

    Args:
        name: How it is called in the output.
        packages: The distributions whose versions are printed with it.
        measure: Runs one repeat on a fresh server and returns its figure.
    """

    name: str
    packages: Sequence[str]
    measure: Callable[[], float]


@dataclass(frozen=True)
class Target:
    """What is promised: ``name`` needs at most ``factor`` times as much as ``reference``; without one, ``factor``."""

    name: str
    factor: float
    reference: str = ""


def compare(title: str, unit: str, subjects: Sequence[Subject], repeats: int, targets: Sequence[Target] = ()) -> None:
    """Measure the subjects in turns and print a line for each, with the first one's ratio to it, then the targets."""
    if (busy := _others()) > BUSY:
        print(f"  other work takes {busy:.0%} of this machine: trust the ratios, not the figures", file=sys.stderr)
    samples: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for turn in range(repeats):
        for subject in subjects:
            figure = subject.measure()
            samples[subject.name].append(figure)
            print(f"  {turn + 1}/{repeats} {subject.name}: {figure:.2f}", file=sys.stderr, flush=True)
    first = subjects[0].name
    for subject in subjects:
        against = "" if subject.name == first else f"; {first} / this = {_ratio(samples, first, subject.name)}"
        versions = ", ".join(f"{package} {version(package)}" for package in (*subject.packages, "uvloop"))
        print(f"{title}: {subject.name}: {_spread(samples[subject.name])} {unit}{against} [{versions}, {_machine()}]")
    for target in targets:
        _judge(title, samples, target)


def _others() -> float:
    """The share of the CPUs that is in use while this process sleeps for a second."""
    before = _cpu_times()
    time.sleep(1.0)
    spent = [after - earlier for after, earlier in zip(_cpu_times(), before, strict=True)]
    return 1 - (spent[3] + spent[4]) / sum(spent)  # idle, and waiting for a disk


def _cpu_times() -> list[int]:
    return [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def _judge(title: str, samples: Mapping[str, list[float]], target: Target) -> None:
    name, reference = target.name, target.reference
    figure = statistics.median(_ratios(samples, name, reference) if reference else samples[name])
    bound = f"{target.factor} x {reference}" if reference else f"{target.factor}"
    verdict = "met" if figure <= target.factor else "MISSED"
    print(f"{title}: target {name} <= {bound}: {figure:.3f}, {verdict}", flush=True)


def _ratios(samples: Mapping[str, list[float]], name: str, reference: str) -> list[float]:
    return [ours / theirs for ours, theirs in zip(samples[name], samples[reference], strict=True)]


def _ratio(samples: Mapping[str, list[float]], name: str, reference: str) -> str:
    return _spread(_ratios(samples, name, reference))


def _spread(figures: Sequence[float]) -> str:
    return f"{statistics.median(figures):.2f} ({min(figures):.2f}-{max(figures):.2f}, n={len(figures)})"


def _machine() -> str:
    return f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} CPUs"


def options(description: str, *, quick: int, full: int) -> tuple[bool, int]:
    """Read the command line: whether it shall be quick, and the number of repeats.

    Args:
        description: The first lines of ``--help``.
        quick: Repeats with ``--quick``.
        full: Repeats without it.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller and fewer repeats: to see that it works")
    parser.add_argument("--repeats", type=int, help=f"turns (default {full}, quick {quick})")
    arguments = parser.parse_args()
    return arguments.quick, arguments.repeats or (quick if arguments.quick else full)
