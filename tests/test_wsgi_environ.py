"""The environ of a request, as PEP 3333 has it."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.wsgi.environ import make_environ


def scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a/b",
        "raw_path": b"/a/b",
        "root_path": "",
        "query_string": b"x=%20&y",
        "headers": [],
        "server": ("10.0.0.1", 8000),
        "client": ("10.0.0.2", 50_000),
        **changes,
    }


def test_it_says_what_was_asked_and_by_whom() -> None:
    environ = make_environ(scope())
    wanted = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "x=%20&y",
        "SERVER_NAME": "10.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "10.0.0.2",
        "REMOTE_PORT": "50000",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert {name: environ[name] for name in wanted} == wanted
    assert type(environ) is dict and environ["wsgi.input"].read() == b""
    assert "CONTENT_TYPE" not in environ and "CONTENT_LENGTH" not in environ


@pytest.mark.parametrize(
    ("raw", "path", "info"),
    [
        (b"/caf%C3%A9", "/café", "/caf\xc3\xa9"),
        (b"/caf%E9", "/caf�", "/caf\xe9"),
        (b"/a%2Fb%20c", "/a/b c", "/a/b c"),
        (b"", "/café", "/caf\xc3\xa9"),
        (None, "/café", "/caf\xc3\xa9"),
        (b"/other", "/rewritten", "/rewritten"),
        (b"/", "/", "/"),
    ],
)
def test_the_path_is_its_bytes_as_latin_1(raw: bytes | None, path: str, info: str) -> None:
    assert make_environ(scope(raw_path=raw, path=path))["PATH_INFO"] == info


@pytest.mark.parametrize(
    ("root", "path", "script", "info"),
    [
        ("/app", "/app/x", "/app", "/x"),
        ("/app", "/app", "/app", ""),
        ("/app", "/app/", "/app", "/"),
        ("/app", "/x", "/app", "/x"),
        ("/app", "/apple", "/app", "/apple"),
        ("/ä", "/ä/ö", "/\xc3\xa4", "/\xc3\xb6"),
    ],
)
def test_where_it_is_mounted_is_the_script_name(root: str, path: str, script: str, info: str) -> None:
    environ = make_environ(scope(root_path=root, path=path, raw_path=None))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, info)


def test_headers_have_their_names_and_repeated_ones_are_joined() -> None:
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", b"3"),
        (b"content-length", b"3"),
        (b"x-one", b"caf\xe9"),
        (b"accept", b"a"),
        (b"accept", b"b"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ]
    environ = make_environ(scope(headers=headers))
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("text/plain", "3")
    assert (environ["HTTP_X_ONE"], environ["HTTP_ACCEPT"], environ["HTTP_COOKIE"]) == ("caf\xe9", "a,b", "a=1; b=2")
    assert "HTTP_CONTENT_TYPE" not in environ


def test_a_header_with_an_underscore_cannot_pass_for_another() -> None:
    environ = make_environ(scope(headers=[(b"x_forwarded_for", b"6.6.6.6"), (b"content_length", b"9")]))
    assert "HTTP_X_FORWARDED_FOR" not in environ and "CONTENT_LENGTH" not in environ


@pytest.mark.parametrize("server", [("/run/x.sock", None), None])
@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443")])
def test_on_a_unix_socket_nothing_that_must_be_there_is_empty(server: Any, scheme: str, port: str) -> None:
    environ = make_environ(scope(server=server, client=None, scheme=scheme))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", port)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("", "")


@pytest.mark.parametrize(("scheme", "seen"), [("ws", "http"), ("wss", "https")])
def test_a_handshake_is_a_get(scheme: str, seen: str) -> None:
    asked = scope(type="websocket", scheme=scheme, headers=[(b"upgrade", b"websocket")])
    del asked["method"]
    environ = make_environ(asked)
    assert (environ["REQUEST_METHOD"], environ["wsgi.url_scheme"], environ["HTTP_UPGRADE"]) == (
        "GET",
        seen,
        "websocket",
    )
