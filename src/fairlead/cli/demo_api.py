"""The API of ``fairlead demo``: plain HTTP on the standard library, one request after the other and no WebSockets.

It stands for your application, and shows all that one needs beside a gateway: a session, an answer about rights, and
triggers.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Final, cast
from urllib.parse import parse_qs

import msgspec

from fairlead.errors import FairleadError
from fairlead.publisher import Publisher

PEOPLE: Final[Mapping[str, tuple[str, ...]]] = {
    "ada": ("harbour", "deck", "bridge"),
    "ben": ("harbour", "deck"),
    "cleo": ("harbour",),
}
"""Who there is, and the rooms each may join."""

_COOKIE: Final = "fairlead_demo"
_BODY_SIZE: Final = 4096
_TEXT_LENGTH: Final = 500


class Say(msgspec.Struct):
    """What the page sends when somebody speaks."""

    room: str
    text: str


class DemoApi(ThreadingHTTPServer):
    """The API, listening on 127.0.0.1 as soon as it is made.

    Args:
        port: Where.
        gateway_port: Where the page finds the gateway.
        publisher: Takes what people say to the gateway.

    Raises:
        OSError: The port cannot be listened on.
    """

    daemon_threads = True

    def __init__(self, port: int, *, gateway_port: int, publisher: Publisher) -> None:
        page = files("fairlead").joinpath("static/demo.html").read_text("utf-8")
        self.page = page.replace("{{gateway_port}}", str(gateway_port)).encode()
        self.publisher = publisher
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds; the gateway keeps its connections for less

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(200, self._api.page, kind="text/html; charset=utf-8")
        elif self.path == "/bootstrap/":
            self._bootstrap()
        else:
            self._answer(404)

    def do_POST(self) -> None:
        size = int(length) if (length := self.headers.get("Content-Length", "0")).isdecimal() else _BODY_SIZE + 1
        if size > _BODY_SIZE:
            self.close_connection = True
            return self._answer(413)
        body = self.rfile.read(size)
        if self.path == "/login":
            self._login(body)
        elif self.path == "/logout":
            self._answer(303, headers={"Location": "/", "Set-Cookie": f"{_COOKIE}=; Path=/; Max-Age=0"})
        elif self.path == "/say":
            self._say(body)
        else:
            self._answer(404)

    def _login(self, body: bytes) -> None:
        name = parse_qs(body.decode("utf-8", "replace")).get("name", [""])[0]
        if name not in PEOPLE:
            return self._answer(400, b"nobody here has that name\n")
        # Lax: a page elsewhere that posts to /say does it without this cookie.
        cookie = f"{_COOKIE}={name}; Path=/; HttpOnly; SameSite=Lax"
        self._answer(303, headers={"Location": "/", "Set-Cookie": cookie})

    def _bootstrap(self) -> None:
        """The one question of the gateway: who is this, and where may it go?"""
        user = self._user()
        if user is None:
            return self._answer(401)
        self._answer_json(200, {"user": {"id": user}, "allowed_rooms": PEOPLE[user]})

    def _say(self, body: bytes) -> None:
        """An ordinary request of a page; at its end the trigger."""
        user = self._user()
        try:
            say = msgspec.json.decode(body, type=Say)
        except msgspec.MsgspecError:
            return self._answer(400)
        if user is None or say.room not in PEOPLE[user]:
            return self._answer(403)
        try:
            published = self._api.publisher.publish(say.room, {"from": user, "text": say.text[:_TEXT_LENGTH]})
        except FairleadError as exc:
            return self._answer(502, str(exc).encode())
        self._answer_json(200, {"delivered": published.delivered})

    @property
    def _api(self) -> DemoApi:
        return cast(DemoApi, self.server)

    def _user(self) -> str | None:
        pairs = self.headers.get("Cookie", "").split(";")
        found = (value for name, _, value in (pair.strip().partition("=") for pair in pairs) if name == _COOKIE)
        name = next(found, "")
        return name if name in PEOPLE else None

    def _answer_json(self, status: int, value: object) -> None:
        self._answer(status, msgspec.json.encode(value), kind="application/json")

    def _answer(
        self, status: int, body: bytes = b"", *, kind: str = "text/plain", headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Cache-Control": "no-store", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the terminal is for the gateway's lines."""
