"""The example in plain Python, with the calls of its README."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from tests.serving import free_ports
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

HERE = Path(__file__).parents[2] / "examples" / "curl_api"
KEY = "a-key-for-this-test-alone"

pytestmark = pytest.mark.slow
opener = build_opener(ProxyHandler({}))


@contextmanager
def process(*command: str, **environ: str) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, *command], env={**os.environ, **environ}, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.terminate()
        child.wait(30)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)  # between two looks, not instead of one
    pytest.fail(f"nothing listens on port {port}")


def call(method: str, url: str, authorization: str, body: object = None) -> tuple[int, object]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with opener.open(Request(url, data, {"Authorization": authorization}, method=method), timeout=10) as response:
            return response.status, json.load(response)
    except HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def test_the_readme_holds() -> None:
    api, clients, admin = free_ports(3)
    gateway = ("-m", "fairlead", "gateway", "-c", str(HERE / "fairlead.toml"))
    ports = [f"--port={clients}", f"--api-port={admin}", f"--upstream=http://127.0.0.1:{api}/bootstrap"]
    url, token = f"http://127.0.0.1:{api}", "Token token-of-ada"
    with (
        process(str(HERE / "api.py"), PORT=str(api), GATEWAY_API=f"http://127.0.0.1:{admin}", FAIRLEAD_API__KEYS=KEY),
        process(*gateway, *ports, FAIRLEAD_API__KEYS=KEY, FAIRLEAD_LIMITS__DRAIN_WINDOW="0"),
    ):
        for port in (api, clients, admin):
            wait_for(port)
        answer = {"user": {"id": "ada"}, "allowed_rooms": ["news", {"crew": 1}]}
        assert call("GET", f"{url}/bootstrap", token) == (200, answer)
        assert call("GET", f"{url}/bootstrap", "")[0] == 401

        with connect(f"ws://127.0.0.1:{clients}/ws/?token=token-of-ada", proxy=None) as ada:
            assert json.loads(ada.recv(10))["user"] == "ada"
            ada.send('{"type":"subscribe","room":{"crew":1},"requestId":1}')
            assert json.loads(ada.recv(10)) == {"requestId": 1, "code": "success"}

            trigger = {"rooms": [{"crew": 1}], "data": {"text": "Ahoy"}}
            done = (200, {"published": 1, "delivered": 1})
            assert call("POST", f"http://127.0.0.1:{admin}/trigger/", f"Bearer {KEY}", trigger) == done
            assert json.loads(ada.recv(10))["data"] == {"text": "Ahoy"}

            said = {"room": {"crew": 1}, "text": "Land"}
            assert call("POST", f"{url}/messages", token, said)[0] == 201
            assert json.loads(ada.recv(10))["data"] == {"from": "ada", **said}
            assert call("POST", f"{url}/messages", "Token token-of-grace", said)[0] == 404

            assert call("DELETE", f"{url}/session", token) == (200, {"connections": 1})
            with pytest.raises(ConnectionClosed) as closed:
                ada.recv(10)
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 4401
        assert call("GET", f"{url}/bootstrap", token)[0] == 401


def test_the_readme_counts_lines_right() -> None:
    (lines,) = re.findall(r"in (\d+) lines", (HERE / "README.md").read_text())
    assert int(lines) == len((HERE / "api.py").read_text().splitlines())
