"""The benchmarks' work in flask-sock: ``app`` for gunicorn, and on our server ``python with_flask_sock.py PORT``.

Paths: /echo, and /idle, which waits for messages that never come.
"""

from __future__ import annotations

import sys

from flask import Flask
from flask_sock import Sock  # type: ignore[import-untyped]
from simple_websocket import Server  # type: ignore[import-untyped]

app = Flask(__name__)
sock = Sock(app)


@sock.route("/echo")  # type: ignore[untyped-decorator]
def echo(ws: Server) -> None:
    """Send back each message."""
    while True:  # ConnectionClosed ends it
        ws.send(ws.receive())


@sock.route("/idle")  # type: ignore[untyped-decorator]
def idle(ws: Server) -> None:
    """Wait for the end."""
    while True:
        ws.receive()


if __name__ == "__main__":
    from fairlead.server import run
    from fairlead.wsgi import WSGI

    run(WSGI(app), port=int(sys.argv[1]))
