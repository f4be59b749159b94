"""Blocking views under WSGI: server CPU per echo of 64 bytes, and memory per connection that waits, 500 of them.

"fairlead" is a Flask view with ``environ["fairlead.websocket"]``. flask-sock, which has a second thread for each
connection, runs unmodified on our server and on one worker of gunicorn with threads.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

from harness import Bench, Target
from servers import HERE, Server, free_port, running, script
from systems import System
from views import compare

IDLE = 500


@contextlib.contextmanager
def gunicorn() -> Iterator[Server]:
    """A worker of ``gthread``, whose every connection holds one of its threads."""
    port = free_port()
    program = str(Path(sys.executable).with_name("gunicorn"))
    options = ["--worker-class", "gthread", "--workers", "1", "--threads", "1000", "--no-control-socket"]
    command = [program, *options, "--log-level", "error", "--bind", f"127.0.0.1:{port}", "with_flask_sock:app"]
    with running(command, port, environ={"PYTHONPATH": str(HERE / "peers")}) as server:
        yield server


_FLASK_SOCK = ("flask-sock", "simple-websocket", "Flask")
PEER = "flask-sock on gunicorn"
SYSTEMS = (
    System("fairlead", ("fairlead", "Flask"), functools.partial(script, "flask_site.py")),
    System(
        "fairlead with flask-sock", ("fairlead", *_FLASK_SOCK), functools.partial(script, "peers/with_flask_sock.py")
    ),
    System(PEER, (*_FLASK_SOCK, "gunicorn"), gunicorn),
)
TARGETS = [Target("fairlead", 1.0, PEER)]


def main() -> None:
    """Compare both ways."""
    bench = Bench(__doc__)
    compare(bench, "blocking views", SYSTEMS, idle=IDLE, echoes=TARGETS, memory=TARGETS)


if __name__ == "__main__":
    main()
