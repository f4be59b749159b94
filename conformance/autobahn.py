"""The Autobahn suite against the echo route of our server, judged by both verdicts of every case.

    python -m conformance.autobahn --fast --setup uvloop

Autobahn|Testsuite 25.10.1 is the newest there is and runs on CPython 2.7 only. One is looked for on the PATH and among
pyenv's; the suite is installed once, under .venv-autobahn. Its exit status is always 0, so the verdicts are read from
its reports. Cases: sections 1-7 and 10 are the 247 fast ones; 9 is limits and performance (54); 12 and 13 are
compression (216) and run where the server has it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.forwarder import forwarding
from conformance.setups import ROOT, SETUPS, NotRun, Running, serving

SUITE = "autobahntestsuite==25.10.1"
VIRTUALENV = "virtualenv==20.21.1"
"""The last line of releases that makes environments for Python 2.7."""

HOME = ROOT / ".venv-autobahn"
WSTEST = HOME / "suite" / "bin" / "wstest"
REPORTS = HOME / "reports"

GROUPS = {("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"): 247, ("9.*",): 54, ("12.*",): 90, ("13.*",): 126}
"""The cases that one client process runs, the fast ones first, and how many they are: fewer verdicts than these mean
that the suite did not run whole."""

TIME_LIMIT = 1800.0
"""Seconds for one set-up; all 517 cases take six minutes on two CPUs, nearly all of it the client's own."""

LIMITS = (
    "message_size=33554432",
    "fragment_count=100000",
    "outbox_limit=134217728",
    "message_rate=1000000",
    "message_burst=1000000",
    "control_rate=1000000",
)
"""Section 9 sends messages of 16 MiB, in up to 65,536 fragments, and a thousand at once."""

CANNOT_RUN = 2
"""The exit status where there is no Python 2.7."""

GOOD = ("OK", "INFORMATIONAL")
"""Informational are the cases for which RFC 6455 leaves the outcome open (7.1.6, 7.13.1, 7.13.2)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the suite thinks of one case.

    Attributes:
        behavior: Of what the server did: OK, NON-STRICT, INFORMATIONAL, UNIMPLEMENTED or FAILED and the like.
        close: Likewise of how the connection was closed.
        why: The suite's own words.
    """

    case: str
    behavior: str
    close: str
    why: str

    @property
    def good(self) -> bool:
        """Whether the case passes: nothing less than OK does, non-strict neither."""
        return self.behavior in GOOD and self.close in GOOD


def install() -> None:
    """Install the suite, unless that was done before.

    Raises:
        NotRun: There is no CPython 2.7 on this machine.
    """
    done = HOME / "done"
    if done.exists() and done.read_text() == SUITE:
        return
    python = find_python()
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    (HOME / ".gitignore").write_text("*\n")
    print(f"installing {SUITE} with {python}", flush=True)
    tool = HOME / "tool" / "bin"
    _run(sys.executable, "-m", "venv", str(HOME / "tool"))
    _run(str(tool / "pip"), "install", "--quiet", "--disable-pip-version-check", VIRTUALENV)
    _run(str(tool / "virtualenv"), "--quiet", "--python", python, str(HOME / "suite"))
    _run(str(HOME / "suite" / "bin" / "pip"), "install", "--quiet", SUITE)
    done.write_text(SUITE)


def find_python() -> str:
    """The path of a CPython 2.7.

    Raises:
        NotRun: There is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [shutil.which("python2.7"), *sorted(map(str, pyenv.glob("versions/2.7*/bin/python2.7")))]
    for candidate in filter(None, candidates):
        # What pyenv puts on the PATH fails where no 2.7 is chosen.
        if subprocess.run([candidate, "-c", "pass"], capture_output=True).returncode == 0:
            return candidate
    raise NotRun("there is no CPython 2.7, which the Autobahn suite needs (pyenv install 2.7.18)")


def _run(*command: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise RuntimeError(f"{command!r} failed:\n{finished.stdout}{finished.stderr}")


def run_cases(running: Running, reports: Path, groups: Iterable[Sequence[str]]) -> dict[str, Verdict]:
    """Run groups of cases, each with a client process of its own, all at once; keep what it reports in a folder.

    Raises:
        RuntimeError: The suite did not run to its end.
    """
    verdicts: dict[str, Verdict] = {}
    with _url(running) as url, contextlib.ExitStack() as stack:
        folders = [reports / group[0].rstrip(".*") for group in groups]
        clients = [
            stack.enter_context(_client(folder, url, group)) for folder, group in zip(folders, groups, strict=True)
        ]
        deadline = time.monotonic() + TIME_LIMIT
        for client in clients:
            client.wait(deadline - time.monotonic())
    for folder in folders:
        verdicts.update(read_report(folder))
    return verdicts


@contextlib.contextmanager
def _url(running: Running) -> Iterator[str]:
    address = running.address
    if address.uds:  # the suite knows no Unix sockets
        with forwarding(address.uds) as port:
            yield f"ws://127.0.0.1:{port}/echo"
    else:
        yield f"{'wss' if address.tls else 'ws'}://{address.host}:{address.port}/echo"


@contextlib.contextmanager
def _client(folder: Path, url: str, cases: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    specification = folder / "specification.json"
    specification.write_text(
        json.dumps(
            {
                "outdir": str(folder),
                "servers": [{"agent": "server", "url": url}],
                "cases": list(cases),
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    with (folder / "log").open("wb") as log:
        command = [str(WSTEST), "-m", "fuzzingclient", "-s", str(specification)]
        client = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            yield client
        finally:
            if client.poll() is None:
                client.kill()
            client.wait()


def read_report(folder: Path) -> dict[str, Verdict]:
    """Read the suite's reports; what it says of a case that is not OK is in that case's own file.

    Raises:
        RuntimeError: There is no report.
    """
    index = folder / "index.json"
    if not index.exists():
        raise RuntimeError(f"the suite wrote no report; see {folder / 'log'}")
    (cases,) = json.loads(index.read_text()).values()
    return {case: _verdict(folder, case, entry) for case, entry in cases.items()}


def _verdict(folder: Path, case: str, entry: dict[str, str]) -> Verdict:
    behavior, close = entry["behavior"], entry["behaviorClose"]
    why = ""
    if behavior not in GOOD or close not in GOOD:
        report = json.loads((folder / entry["reportfile"]).read_text(errors="replace"))
        why = f"{report['result']} {report['resultClose']}"
    return Verdict(case, behavior, close, why)


def judge(verdicts: dict[str, Verdict], expected: int) -> bool:
    """Print the verdicts by number and every case that is not OK; return whether all is good."""
    for title, counted in (
        ("behaviour", Counter(verdict.behavior for verdict in verdicts.values())),
        ("close", Counter(verdict.close for verdict in verdicts.values())),
    ):
        numbers = ", ".join(f"{number} {name}" for name, number in counted.most_common())
        print(f"  {title + ':':11}{numbers}")
    bad = [verdict for verdict in verdicts.values() if not verdict.good]
    for verdict in sorted(bad, key=lambda verdict: [int(part) for part in verdict.case.split(".")]):
        print(f"  case {verdict.case}: {verdict.behavior}, close {verdict.close}: {verdict.why}")
    if len(verdicts) != expected:
        print(f"  {len(verdicts)} cases ran, {expected} should have")
    return not bad and len(verdicts) == expected


def run_setup(setup: str, *, fast: bool, compression: str) -> bool:
    """Run the suite in one set-up; return whether it passed."""
    groups = list(GROUPS)[:1] if fast else list(GROUPS)
    limits = (*LIMITS, f'compression="{compression}"')
    started = time.monotonic()
    with serving(setup, *(word for limit in limits for word in ("--limit", limit))) as running:
        verdicts = run_cases(running, REPORTS / f"{setup}-{compression}", groups)
    print(f"{setup}, compression {compression}: {len(verdicts)} cases in {time.monotonic() - started:.0f} s")
    return judge(verdicts, sum(GROUPS[group] for group in groups))


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if every case in every set-up that ran is good."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.autobahn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--setup", action="append", choices=tuple(SETUPS), help="default: uvloop; may be repeated")
    parser.add_argument("--fast", action="store_true", help="only the 247 cases of sections 1-7 and 10")
    parser.add_argument("--compression", choices=("own", "shared", "off"), default="own", help="the server's setting")
    arguments = parser.parse_args(words)
    try:
        install()
    except NotRun as missing:
        print(f"Autobahn suite: cannot run: {missing}", file=sys.stderr)
        return CANNOT_RUN
    passed = True
    for setup in arguments.setup or ["uvloop"]:
        try:
            passed &= run_setup(setup, fast=arguments.fast, compression=arguments.compression)
        except NotRun as missing:
            print(f"{setup}: not run: {missing}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
