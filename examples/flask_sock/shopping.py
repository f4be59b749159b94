"""A shopping list that everybody sees change: pages by Flask, sockets by flask-sock.

fairlead run --wsgi shopping:app
"""

from __future__ import annotations

import json
import os
import secrets
from itertools import count
from pathlib import Path
from threading import RLock

from flask import Flask, abort, redirect, render_template, request, session, url_for
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server
from werkzeug.wrappers import Response


def kept_key(file: Path) -> str:
    """The key of earlier starts, or a new one. With another key after every start nobody would have a name any more."""
    if not file.exists():
        draft = file.with_suffix(f".{os.getpid()}.key")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex())
        draft.replace(file)  # in one step: who starts at the same time never reads half a key
    return file.read_text()


app = Flask(__name__)
app.secret_key = os.environ.get("SHOPPING_KEY") or kept_key(Path(__file__).with_suffix(".key"))
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25, "max_message_size": 1_000}
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
sock = Sock(app)

LIMIT = 100  # things on the list
numbers = count(1)
things: dict[int, str] = {}
visitors: set[Server] = set()
lock = RLock()  # views run in many threads, and those of sockets as long as their visitors stay


@app.before_request
def ask_for_a_name() -> Response | None:
    """For pages and sockets alike: what is answered here to a handshake refuses it."""
    if "name" in session or request.endpoint in ("name", "static"):
        return None
    if "HTTP_UPGRADE" in request.environ:
        abort(401)
    return redirect(url_for("name"))


@app.route("/name", methods=["GET", "POST"])
def name() -> Response | str:
    """Who are you?"""
    given = request.form.get("name", "").strip()[:20]
    if given:
        session["name"] = given
        return redirect(url_for("home"))
    return render_template("name.html")


@app.get("/")
def home() -> str:
    """The list; what is on it comes over the socket."""
    return render_template("list.html", name=session["name"])


@sock.route("/changes")  # type: ignore[untyped-decorator]  # flask-sock has no types
def changes(ws: Server) -> None:
    """Tell one visitor what is on the list, and everybody what he changes about it."""
    with lock:
        visitors.add(ws)
        ws.send(json.dumps({"things": things}))
    try:
        while True:
            change(ws, ws.receive())  # raises ConnectionClosed when he leaves, which flask-sock expects
    finally:
        with lock:
            visitors.discard(ws)


def change(ws: Server, message: str | bytes) -> None:
    """Do what a visitor asks for: ``{"add": "milk"}`` or ``{"done": 7}``."""
    with lock:
        match read(message):
            case {"add": str(text)} if text.strip() and len(things) < LIMIT:
                number = next(numbers)
                things[number] = text.strip()[:100]
                publish({"added": number, "text": things[number], "by": session["name"]})
            case {"done": int(number)} if things.pop(number, None) is not None:
                publish({"done": number, "by": session["name"]})
            case _:
                ws.send(json.dumps({"error": "that cannot be done"}))


def read(message: str | bytes) -> object:
    """The JSON in a message; None if it is something else."""
    try:
        return json.loads(message)
    except ValueError:
        return None


def publish(news: dict[str, object]) -> None:
    """Tell everybody, with the lock held."""
    text = json.dumps(news)
    for visitor in list(visitors):
        try:
            visitor.send(text)
        except (ConnectionClosed, OSError):  # he has left, and his own view is about to notice
            visitors.discard(visitor)
