"""Start servers, each on a core of its own, and read what they use.

* CPU is what the kernel charged to the server's threads and to those of its children (``/proc/*/schedstat``,
  nanoseconds), from the start of the window to its end. The clients' own CPU is not in it.
* Where there are two cores or more, the server measured has the last one to itself, with all its processes; the clients
  and whatever else is needed beside it have the others.
* No server outlives the benchmark, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
START_TIMEOUT = 20.0
KEY = "a-key-for-benchmarks-only"
"""The API key of the gateway's admin listener while it is measured."""

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = set(_CORES[-1:])
LOAD_CORES = set(_CORES[:-1]) or SERVER_CORES


class Server:
    """A running server process with its children.

    Args:
        process: The started process, leader of its own process group.
        port: The port clients connect to.
        admin: The port where publications are posted; 0 where there is none.
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
        """Bytes, as ``smaps_rollup`` counts them: ``Pss`` (shared pages divided by their users), ``Rss`` and others."""
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
        """End all its processes at once; nothing measured needs their farewell."""
        pids = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended by itself
            pids = self._pids()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in pids[1:]:  # Pushpin's have groups of their own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
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
def running(
    command: Sequence[str],
    port: int,
    admin: int = 0,
    *,
    measured: bool = True,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run a server until the block ends; what it writes to stderr is shown if it does not start.

    Args:
        command: The program and its arguments.
        port: See Server.
        admin: See Server.
        measured: False: it is only needed beside the one that is measured, and runs on the clients' cores.
        environ: Variables added to the environment.
    """
    cores = SERVER_CORES if measured else LOAD_CORES
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=os.environ | (environ or {}),
            start_new_session=True,
            preexec_fn=lambda: _prepare(cores),
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


def _prepare(cores: set[int]) -> None:
    """Have the kernel kill the server when this process is gone, also where it was killed and could not stop it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, cores)


@contextlib.contextmanager
def script(call: str, *, measured: bool = True, environ: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run one of the servers beside this file, on a free port that is put before its arguments.

    Args:
        call: The path from here and the further arguments, separated by spaces.
        measured: See ``running``.
        environ: See ``running``.
    """
    name, *arguments = call.split()
    port = free_port()
    command = [sys.executable, str(HERE / name), str(port), *arguments]
    with running(command, port, measured=measured, environ=environ) as server:
        yield server


@contextlib.contextmanager
def api() -> Iterator[Server]:
    """Run the API that the gateway asks, beside it."""
    with script("api.py", measured=False) as server:
        yield server


@contextlib.contextmanager
def gateway(upstream: int, *, path: str = "", compression: str = "off") -> Iterator[Server]:
    """Run ``fairlead gateway`` on free ports, asking the API on port ``upstream`` at ``/path``.

    Everything is at its default, but no pings: the peers run without them too.
    """
    port, admin = free_port(), free_port()
    settings = (
        f"[server]\nport = {port}\n"
        f'[upstream]\nurl = "http://127.0.0.1:{upstream}/{path}"\n'
        f'[api]\nport = {admin}\nkeys = ["{KEY}"]\n'
        f'[limits]\nping_after = 3600.0\nping_timeout = 7200.0\ncompression = "{compression}"\n'
        '[log]\nlevel = "warning"\n'
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fairlead.toml"
        file.write_text(settings)
        with running([*GATEWAY, str(file)], port, admin) as server:
            yield server


GATEWAY = [str(Path(sys.executable).with_name("fairlead")), "gateway", "--config"]
"""The command that takes the settings file as its last argument."""
