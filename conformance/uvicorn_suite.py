"""uvicorn's own WebSocket tests, with our class in the place of theirs.

    python -m conformance.uvicorn_suite

They come with the source of the uvicorn that is installed, which pip fetches for the run; nothing of it is kept. What
they demand and we do not do stands in EXCEPTIONS. Anything else that fails is a fault, and so is an exception that
passes, for then it is none.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

TESTS = "tests/protocols/test_websocket.py"

_FAREWELL = "the client gets a Close frame, 1000 or 1011; uvicorn drops the connection"
_WHOLE = "nothing of a refusal is sent before it is complete; one that stays incomplete is a 500"
_INSIDE = "it looks for attributes of uvicorn's own classes"

EXCEPTIONS: Mapping[str, str] = {
    "test_duplicate_handshake": _FAREWELL,
    "test_asgi_return_value": _FAREWELL,
    "test_close_transport_on_asgi_return": _FAREWELL,
    "test_send_close_on_server_shutdown": "the disconnect event also has the reason that was sent with 1012",
    "test_send_binary_data_to_server_bigger_than_default_on_websockets[max=defaults sent=defaults+1]": (
        "the rest of the message is read and 1009 arrives; the test's client then trips over its own unsent bytes"
    ),
    "test_server_reject_connection_with_invalid_status": "the text of a 500 is another",
    "test_server_reject_connection_with_invalid_msg": _WHOLE,
    "test_server_reject_connection_with_missing_body": _WHOLE,
    "test_server_multiple_websocket_http_response_start_events": _WHOLE,
    "test_frame_after_close_handshake_is_ignored": _INSIDE,
    "test_server_keepalive_ping_pong": _INSIDE,
    "test_server_keepalive_disabled": _INSIDE,
    "test_server_keepalive_ping_timeout": "times are kept to a second, and it wants 0.1",
    "test_close_gives_up_when_the_peer_never_replies": "the client has 5 seconds for its Close, and it wants 0",
    "test_close_resumes_reads_paused_on_an_unconsumed_message": "reading stops at 128 messages or 64 KiB, not at 1",
    "test_shutdown_while_the_close_reply_is_pending": "a client whose Close is still missing keeps its 5 seconds",
}
"""By test, without the HTTP class that it ran with: why it fails."""


def fetch(folder: Path) -> None:
    """Unpack the tests of the installed uvicorn into a folder, with our ``conftest.py`` beside them.

    Raises:
        RuntimeError: They cannot be had: there is no network, or this release has none.
    """
    wanted = f"uvicorn=={version('uvicorn')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run(*pip, "--no-binary", "uvicorn", "--dest", str(folder), wanted)
    (archive,) = folder.glob("uvicorn-*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    shutil.move(folder / archive.name.removesuffix(".tar.gz") / "tests", folder / "tests")
    shutil.copy(Path(__file__).with_name("uvicorn_conftest.py"), (folder / TESTS).with_name("conftest.py"))


def run(folder: Path) -> dict[str, str]:
    """Run the tests; return what became of each: "passed", "skipped", or why it failed.

    Raises:
        RuntimeError: They did not run to their end.
    """
    report = folder / "report.xml"
    # Warnings are errors, as in uvicorn's own settings, which stay behind since they want more plugins.
    options = [
        "-q",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        f"--junit-xml={report}",
        "--rootdir=.",
    ]
    stuck = ["-o", "faulthandler_timeout=20", "-o", "faulthandler_exit_on_timeout=true"]
    output = _run(sys.executable, "-m", "pytest", *options, *stuck, TESTS, folder=folder, good=(0, 1))
    if not report.exists():
        raise RuntimeError(output)
    return {case.attrib["name"]: _outcome(case) for case in ElementTree.parse(report).iter("testcase")}


def _outcome(case: ElementTree.Element) -> str:
    for result in case:
        if result.tag == "skipped":
            return "skipped"
        if result.tag in ("failure", "error"):
            return result.attrib.get("message", "failed").splitlines()[0]
    return "passed"


def _run(*command: str, folder: Path | None = None, good: Sequence[int] = (0,)) -> str:
    finished = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if finished.returncode not in good:
        raise RuntimeError(f"{command!r} failed:\n{finished.stdout}")
    return finished.stdout


def judge(outcomes: Mapping[str, str], exceptions: Mapping[str, str] = EXCEPTIONS) -> list[str]:
    """Return what is wrong, a line for each."""
    wrong = []
    unseen = set(exceptions)
    for name, outcome in outcomes.items():
        test = _without_http(name)
        unseen.discard(test)
        if outcome == "passed" and test in exceptions:
            wrong.append(f"{name} passes, and is listed as an exception: {exceptions[test]}")
        elif outcome not in ("passed", "skipped") and test not in exceptions:
            wrong.append(f"{name} fails: {outcome}")
    if "passed" not in outcomes.values():
        wrong.append("no test passed")
    return wrong + [f"{test} is listed as an exception, and there is no such test" for test in sorted(unseen)]


def _without_http(name: str) -> str:
    return re.sub(r"\[(fairlead-)?(httptools|h11|zttp)-?", "[", name).replace("[]", "")


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns 0 if all tests but the exceptions pass."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.uvicorn_suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(words)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="conformance-") as name:
            fetch(Path(name))
            outcomes = run(Path(name))
    except RuntimeError as error:
        print(f"uvicorn's tests: cannot run: {error}", file=sys.stderr)
        return 1
    wrong = judge(outcomes)
    for line in wrong:
        print(f"  {line}")
    numbers = Counter(outcome if outcome in ("passed", "skipped") else "failed" for outcome in outcomes.values())
    print(
        f"uvicorn {version('uvicorn')}: {numbers['passed']} passed, {numbers['failed']} failed, "
        f"{numbers['skipped']} skipped, {len(wrong)} not as listed, {time.monotonic() - started:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
