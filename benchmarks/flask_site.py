"""The benchmarks' work in blocking views, as ``fairlead run --wsgi`` runs them. ``python flask_site.py PORT``.

Paths: /echo, and /idle, which waits for messages that never come.
"""

from __future__ import annotations

import sys

from flask import Flask, request
from ours import LIMITS

from fairlead.server import run
from fairlead.wsgi import WSGI

app = Flask(__name__)


@app.route("/echo", websocket=True)
def echo() -> str:
    """Send back each message."""
    ws = request.environ["fairlead.websocket"]
    for message in ws:
        ws.send(message)
    return ""


@app.route("/idle", websocket=True)
def idle() -> str:
    """Wait for the end."""
    for _ in request.environ["fairlead.websocket"]:
        pass
    return ""


if __name__ == "__main__":
    run(WSGI(app, limits=LIMITS), port=int(sys.argv[1]), limits=LIMITS)
