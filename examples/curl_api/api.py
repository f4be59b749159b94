"""An HTTP API that has never heard of WebSockets; it stands for yours, in any language. GET /bootstrap is what the
gateway asks about every client, POST /messages says something in a room, DELETE /session logs out."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

GATEWAY = os.environ.get("GATEWAY_API", "http://127.0.0.1:8101")
KEY = os.environ.get("FAIRLEAD_API__KEYS") or sys.exit("api.py: set FAIRLEAD_API__KEYS to the key that the gateway has")
SESSIONS = {"token-of-ada": "ada", "token-of-grace": "grace"}
ROOMS = {"ada": ["news", {"crew": 1}], "grace": ["news"]}


def tell_gateway(path: str, body: object) -> object:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urlopen(Request(GATEWAY + path, json.dumps(body).encode(), headers), timeout=2) as response:
        return json.load(response)


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Token ")

    def answer(self, status: int, body: object) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def do_GET(self) -> None:
        user = SESSIONS.get(self.token())
        if self.path != "/bootstrap" or user is None:
            return self.answer(404 if user else 401, {"error": "no such page" if user else "log in first"})
        self.answer(200, {"user": {"id": user}, "allowed_rooms": ROOMS[user]})

    def do_POST(self) -> None:
        user = SESSIONS.get(self.token())
        try:
            said = {**json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0)))), "from": user}
            room = said["room"]
        except (ValueError, TypeError, KeyError):
            return self.answer(400, {"error": 'say it as {"room": ROOM, "text": TEXT}'})
        if self.path != "/messages" or room not in ROOMS.get(user or "", []):
            return self.answer(404, {"error": "no such room"})
        self.answer(201, tell_gateway("/trigger/", {"rooms": [room], "data": said}))

    def do_DELETE(self) -> None:
        user = SESSIONS.pop(self.token(), None)  # first the session, then the sockets: they come back once and ask
        self.answer(200, tell_gateway("/disconnect", {"user": user}) if user else {})


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8000"))), Api).serve_forever()
