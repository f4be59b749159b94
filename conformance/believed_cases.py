"""What servers and applications act upon without asking again: whose page it is, who the client is, where lines end.

No byte but CR LF ends a header line, none but SP and HTAB is white space, and nobody but a proxy that the server was
told about speaks for its clients: a stranger's ``X-Forwarded-Host`` lets no foreign page in.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.case import ANY, DROP, KEY, LENIENT, PLAIN, Case, Changes, ask

FOREIGN = "http://other.invalid"

HIDDEN = {
    "VT": "\x0b",
    "FF": "\x0c",
    "FS": "\x1c",
    "GS": "\x1d",
    "RS": "\x1e",
    "NEL": "\x85",
    "NEL in UTF-8": "\xc2\x85",
    "U+2028": "\xe2\x80\xa8",
    "CR": "\r",
    "NUL": "\x00",
}
"""What some languages' functions take for the end of a line or for white space. HTTP does not (RFC 9112, 2.2)."""

LETTERS = "U+2028"
"""The one of these that is no control character, so a value may have it."""


def believed() -> Iterator[Case]:
    """All of them."""
    yield from _origins()
    yield from _forwarded()
    yield from _hidden_lines()
    yield from _hidden_bytes()


def _origins() -> Iterator[Case]:
    """Browsers let any page ask, cookies and all: the server must look whose it is (RFC 6455, 10.2)."""

    def origin(value: str | list[str], ours: int, *, host: str = "{host}") -> Case:
        shown = f"Origin {value!r}" if host == "{host}" else f"Origin {value!r} at Host {host!r}"
        request = ask({"Host": host, "Origin": value})
        proxied = host == "{host}" and value != ""
        rule = "RFC 6455, 10.2: the same origin and no other"
        return Case(name=shown, rule=rule, legal=ANY, ours=ours, request=request, proxied=proxied)

    yield origin("http://{host}", 101)
    yield origin("HTTP://{host}", 101)
    yield origin(" \thttp://{host}\t ", 101)
    yield origin("https://a.invalid", 101, host="a.invalid:443")
    yield origin("http://A.invalid:80", 101, host="a.INVALID")
    yield origin("http://[::1]:8000", 101, host="[::1]:8000")
    yield origin("https://a.invalid", 403, host="a.invalid:80")
    yield origin("http://a.invalid.", 403, host="a.invalid")
    yield origin("http://a.invalid:8000", 403, host="a.invalid:80")
    for value in (
        FOREIGN,
        "http://{host}.other.invalid",
        "http://{host}0",
        "http://x{host}",
        "http://other.invalid/{host}",
        "http://other.invalid#{host}",
        "http://{host}@other.invalid",
        "http://user@{host}",
        "http://{host}/",
        "http://{host}, http://other.invalid",
        "http://{host} http://other.invalid",
        "http:/{host}",
        "//{host}",
        "{host}",
        "http://",
        "file://",
        "null",
        "*",
        "",
        '"http://{host}"',
        "http://\xff{host}",
    ):
        yield origin(value, 403)
    for values in (["http://{host}", FOREIGN], [FOREIGN, "http://{host}"], ["http://{host}", "http://{host}"]):
        yield origin(values, 403)


def _forwarded() -> Iterator[Case]:
    """What a client says of its way here is no proxy's word."""

    def forwarded(name: str, changes: Changes, ours: int = 403) -> Case:
        rule = "RFC 7239, 8.1: a header that any client can send"
        proxied = "Host" not in changes
        return Case(name=name, rule=rule, legal=ANY, ours=ours, request=ask(changes), proxied=proxied)

    claims: dict[str, str] = {
        "X-Forwarded-Host": "other.invalid",
        "X-Forwarded-Server": "other.invalid",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Port": "80",
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "X-Original-Host": "other.invalid",
        "X-Host": "other.invalid",
        "Forwarded": "for=127.0.0.1;host=other.invalid;proto=http",
    }
    for name, value in claims.items():
        yield forwarded(f"a foreign Origin and {name}", {"Origin": FOREIGN, name: value})
    yield forwarded("a foreign Origin and every claim of a proxy", {"Origin": FOREIGN, **claims})
    yield forwarded(
        "a foreign Origin and claims over lines",
        {"Origin": FOREIGN, "X-Forwarded-Host": ["{host}", "other.invalid"], "X-Forwarded-For": ["::1", "127.0.0.1"]},
    )
    secure: Changes = {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
    yield forwarded(
        "an Origin of another port and claims of TLS",
        {"Host": "a.invalid:8000", "Origin": "https://a.invalid", **secure},
    )
    yield forwarded("the same Origin and another X-Forwarded-Host", {"Origin": "http://{host}", **claims}, 101)


def _hidden_lines() -> Iterator[Case]:
    """A header that is there only for whoever splits lines at the wrong bytes."""
    rule = "RFC 9112, 2.2 and RFC 9110, 5.5: not the end of a line"
    for name, byte in HIDDEN.items():
        is_letter = name == LETTERS
        request = ask({"Sec-WebSocket-Key": None, "X-Custom": f"a{byte}Sec-WebSocket-Key: {KEY}"})
        yield Case(name=f"a key behind {name}", rule=rule, legal=DROP, ours=400, request=request)
        request = ask({"Host": None, "X-Custom": f"a{byte}Host: {{host}}"})
        yield Case(name=f"Host behind {name}", rule=rule, legal=DROP, ours=400, request=request)
        request = ask({"Connection": None, "X-Custom": f"a{byte}Connection: Upgrade"})
        ours = 426 if is_letter else 400
        yield Case(name=f"Connection behind {name}", rule=rule, legal=PLAIN | DROP, ours=ours, request=request)
        ours = 101 if is_letter else 400
        request = ask({"X-Custom": f"a{byte}Transfer-Encoding: chunked"})
        yield Case(name=f"a transfer coding behind {name}", rule=rule, legal=LENIENT, ours=ours, request=request)
        request = ask({"X-Custom": f"a{byte}Origin: {FOREIGN}"})
        yield Case(name=f"a foreign Origin behind {name}", rule=rule, legal=LENIENT, ours=ours, request=request)
        ours = 403 if is_letter else 400
        request = ask({"Origin": FOREIGN, "X-Custom": f"a{byte}X-Forwarded-Host: other.invalid"})
        yield Case(name=f"X-Forwarded-Host behind {name}", rule=rule, legal=LENIENT, ours=ours, request=request)


def _hidden_bytes() -> Iterator[Case]:
    """The same bytes where they might be overlooked or stripped: in names and values that decide who gets in."""
    rule = "RFC 9110, 5.1, 5.5 and 5.6.3: neither of a name nor of a value, nor white space"
    fields = {
        "Origin": ("http://{host}", 403),
        "Host": ("{host}", 400),
        "Cookie": ("session=0123456789abcdef", 101),
        "X-Forwarded-For": ("192.0.2.1", 101),
    }
    for field, (value, ours_of_letters) in fields.items():
        for name, byte in HIDDEN.items():
            ours = ours_of_letters if name == LETTERS else 400
            for place, changed in (("in", f"{value}{byte}x"), ("before", f"{byte}{value}"), ("behind", value + byte)):
                shown = f"{name} {place} the value of {field}"
                yield Case(name=shown, rule=rule, legal=LENIENT, ours=ours, request=ask({field: changed}))
            for place, changed in (
                ("before", byte + field),
                ("behind", field + byte),
                ("in", f"{field[0]}{byte}{field[1:]}"),
            ):
                shown = f"{name} {place} the name {field}"
                request = ask({field: None, changed: value})
                yield Case(name=shown, rule=rule, legal=LENIENT, ours=400, request=request)
