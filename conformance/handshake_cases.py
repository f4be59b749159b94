"""The opening handshake as a table: what a client may send, what the standards allow in answer, what Fairlead answers.

Nothing here or in ``believed_cases`` knows a particular server. ``python -m conformance.handshake --export`` prints the
table as JSON, for programs in other languages. In every request ``{host}`` stands for the server's own Host value and
``{path}`` for a path where it accepts WebSockets; all else is sent as it stands, each character being one byte (ISO
8859-1).

A case is a MUST where the standards leave one outcome, and a policy where they leave several: then ``legal`` holds all
of them and ``ours`` is this project's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from conformance.believed_cases import believed
from conformance.case import (
    ACCEPT,
    ANY,
    BAD,
    DROP,
    KEY,
    LENIENT,
    PLAIN,
    REFUSE,
    SMUGGLED,
    Case,
    Changes,
    ask,
)


def _good() -> Iterator[Case]:
    """Legal in every respect."""

    def good(name: str, rule: str, request: str, *, proxied: bool = True) -> Case:
        return Case(name=name, rule=rule, legal=ACCEPT, ours=101, request=request, proxied=proxied)

    yield good("the least", "RFC 6455, 4.2.1", ask())
    for name, change in (("lower", str.lower), ("upper", str.upper), ("swapped", str.swapcase)):
        yield good(f"names in {name} case", "RFC 9110, 5.1", _renamed(ask(), change))
    for value in ("WebSocket", "WEBSOCKET"):
        yield good(f"Upgrade: {value}", "RFC 6455, 4.2.1 (3)", ask({"Upgrade": value}))
    for value in ("upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade, keep-alive", "keep-alive,Upgrade"):
        yield good(f"Connection: {value}", "RFC 6455, 4.2.1 (4)", ask({"Connection": value}))
    for value in ("keep-alive,\tUpgrade", "keep-alive ,\t Upgrade\t", "  Upgrade", "\tUpgrade  "):
        yield good(f"Connection: {value!r}", "RFC 9110, 5.6.1 and 5.6.3", ask({"Connection": value}))
    for value in (", ,Upgrade,", "keep-alive,, Upgrade"):
        yield good(f"Connection: {value}", "RFC 9110, 5.6.1.2: empty elements", ask({"Connection": value}))
    for values in (["keep-alive", "Upgrade"], ["Upgrade", "keep-alive"], ["", "Upgrade"]):
        yield good(f"Connection over lines: {values}", "RFC 9110, 5.3", ask({"Connection": values}))
    yield good("Connection names other headers", "RFC 9110, 7.6.1", ask({"Connection": "X-Hop, Upgrade", "X-Hop": "1"}))
    # A proxy passes on what it understands of these.
    yield good("Upgrade: h2c, websocket", "RFC 9110, 7.8", ask({"Upgrade": "h2c, websocket"}))
    yield good("Upgrade: websocket, h2c", "RFC 9110, 7.8", ask({"Upgrade": "websocket, h2c"}))
    yield good("Upgrade over lines", "RFC 9110, 5.3", ask({"Upgrade": ["h2c", "websocket"]}), proxied=False)
    yield good("no space after colons", "RFC 9112, 5", ask().replace(": ", ":"))
    yield good("spaces around values", "RFC 9112, 5", ask({"Sec-WebSocket-Key": f"  {KEY} \t"}))
    yield good("tabs around values", "RFC 9112, 5", ask({"Sec-WebSocket-Version": "\t13\t"}))
    yield good("headers in reverse", "RFC 9110, 5.3", _reversed(ask()))
    yield good("a header twice", "RFC 9110, 5.3", ask({"X-Custom": ["a", "b"]}))
    yield good("an empty header", "RFC 9110, 5.5", ask({"X-Custom": ""}))
    yield good("a cookie in UTF-8", "RFC 9110, 5.5", ask({"Cookie": "name=\xc3\xa9\xe2\x82\xac"}))
    yield good("a tab inside a value", "RFC 9110, 5.5", ask({"X-Custom": "a\tb"}))
    yield good("every token character in a name", "RFC 9110, 5.6.2", ask({"!#$%&'*+-.^_`|~09azAZ": "x"}))
    for key in ("AAAAAAAAAAAAAAAAAAAAAA==", "/////////////////////w==", "+/+/+/+/+/+/+/+/+/+/+w=="):
        yield good(f"key {key}", "RFC 6455, 4.2.2 (5.4)", ask({"Sec-WebSocket-Key": key}))
    for path in ("{path}?", "{path}?a=b&c=%20", "{path}?a?b", "{path}?/../x"):
        yield good(f"target {path}", "RFC 9112, 3.2.1", ask(line=f"GET {path} HTTP/1.1"))
    yield good("absolute-form", "RFC 9112, 3.2.2", ask(line="GET http://{host}{path} HTTP/1.1"))
    yield good("absolute-form, other case", "RFC 9110, 4.2.3", ask(line="GET HTTP://{host}{path} HTTP/1.1"))
    yield good("TE: trailers", "RFC 9110, 10.1.4", ask({"TE": "trailers", "Connection": "Upgrade, TE"}))
    yield good("a type without a body", "RFC 9110, 8.3", ask({"Content-Type": "text/plain"}))
    yield good("Accept among the request's headers", "RFC 6455, 11.3.3", ask({"Sec-WebSocket-Accept": "x"}))


def _renamed(request: str, change: Callable[[str], str]) -> str:
    line, *fields = request.split("\r\n")
    return "\r\n".join(
        [line, *(change(name) + colon + value for name, colon, value in (f.partition(":") for f in fields))]
    )


def _reversed(request: str) -> str:
    line, *fields = request.removesuffix("\r\n\r\n").split("\r\n")
    return "\r\n".join([line, *reversed(fields)]) + "\r\n\r\n"


def _lists() -> Iterator[Case]:
    """Subprotocols and extensions."""
    accepted = [("chat", "RFC 6455, 4.2.1 (8)"), ("a, b , c", "RFC 6455, 4.2.1 (8)"), ("a,,b", "RFC 9110, 5.6.1.2")]
    for value, rule in accepted:
        request = ask({"Sec-WebSocket-Protocol": value})
        yield Case(name=f"protocols {value}", rule=rule, legal=ACCEPT, ours=101, request=request, proxied=True)
    request = ask({"Sec-WebSocket-Protocol": ["a", "b, c"]})
    yield Case(name="protocols over lines", rule="RFC 6455, 11.3.4", legal=ACCEPT, ours=101, request=request)
    for value in ("", ",", "a, a", "a b", "a/b", "(a)", '"a"', "a;b", "\xe9"):
        request = ask({"Sec-WebSocket-Protocol": value})
        yield Case(
            name=f"protocols {value!r}", rule="RFC 6455, 4.1 (10)", legal=ANY, ours=400, request=request, proxied=True
        )
    request = ask({"Sec-WebSocket-Protocol": ["a", "b, a"]})
    yield Case(name="a protocol twice over lines", rule="RFC 6455, 4.1 (10)", legal=ANY, ours=400, request=request)
    for value in (
        "x-unknown",
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "x-a; b=c; d, x-e",
        'x-a; b="c"',
        "x-a , ,x-b",
        "permessage-deflate; server_max_window_bits=99",
    ):
        request = ask({"Sec-WebSocket-Extensions": value})
        yield Case(
            name=f"extensions {value}", rule="RFC 6455, 9.1", legal=ACCEPT, ours=101, request=request, proxied=True
        )
    yield from _offers()
    request = ask({"Sec-WebSocket-Extensions": ["x-a", "x-b; c"]})
    yield Case(name="extensions over lines", rule="RFC 6455, 9.1", legal=ACCEPT, ours=101, request=request)
    bad = ["x-a;", "; b", "x-a; =c", "x-a; b=", "x a", 'x-a; b="c d"', 'x-a; b="c', "x-a; b=c=d", "x/a", ","]
    bad += [f"permessage-deflate; client_max_window_bits={value}" for value in ('""', '"1 0"', '"10,11"', '"10')]
    bad += [f"permessage-deflate; client_max_window_bits={value}" for value in ('"10"1', '10"', '"1\x00"', "\xb2")]
    for value in bad:
        request = ask({"Sec-WebSocket-Extensions": value})
        yield Case(name=f"extensions {value}", rule="RFC 6455, 9.1", legal=REFUSE, ours=400, request=request)


def _offers() -> Iterator[Case]:
    """Compression (RFC 7692, 7.1): a good offer may be accepted, a bad one leaves the connection uncompressed."""

    def offer(parameters: str, rule: str, *, good: bool) -> Case:
        header = "Sec-WebSocket-Extensions"
        value = f"permessage-deflate; {parameters}"
        wants, lacks = ((header,), ()) if good else ((), (header,))
        request = ask({header: value})
        return Case(
            name=f"the offer {parameters[:80]}",
            rule=rule,
            legal=ACCEPT,
            ours=101,
            request=request,
            wants=wants,
            lacks=lacks,
            proxied=True,
        )

    quoted = "RFC 6455, 9.1: a quoted token is that token"
    yield offer('server_max_window_bits=12; client_max_window_bits="10"', quoted, good=True)
    yield offer('server_max_window_bits="8"', quoted, good=True)
    yield offer('client_max_window_bits="1\\0"', "RFC 6455, 9.1: after unescaping", good=True)
    bits = "RFC 7692, 7.1.2: 8 to 15, without leading zeroes"
    for value in ("8", "9", "15"):
        yield offer(f"server_max_window_bits={value}", bits, good=True)
        yield offer(f"client_max_window_bits={value}", bits, good=True)
    for value in ("0", "7", "16", "08", "010", "+9", "-8", "8.0", "x", "'10", '"7"', '"08"', "9" * 400):
        yield offer(f"server_max_window_bits={value}", bits, good=False)
        yield offer(f"client_max_window_bits={value}", bits, good=False)
    yield offer("server_max_window_bits", "RFC 7692, 7.1.2.1: it has a value", good=False)
    for name in ("server_no_context_takeover", "client_no_context_takeover"):
        yield offer(name, "RFC 7692, 7.1.1", good=True)
        yield offer(f"{name}=1", "RFC 7692, 7.1.1: it has no value", good=False)
    yield offer("client_max_window_bits; client_max_window_bits", "RFC 7692, 7.1: the same name twice", good=False)
    yield offer("unknown", "RFC 7692, 7.1: not defined", good=False)
    second = "server_max_window_bits=7, permessage-deflate; server_max_window_bits=9"
    yield offer(second, "RFC 7692, 5: the next offer", good=True)


def _real() -> Iterator[Case]:
    """As browsers and libraries send them."""
    for name, fields in REAL.items():
        request = "GET {path} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in fields) + "\r\n"
        yield Case(
            name=f"as {name} sends it", rule="RFC 6455, 4.1", legal=ACCEPT, ours=101, request=request, proxied=True
        )


REAL = {
    "Firefox 153": [
        "Host: {host}",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0",
        "Accept: */*",
        "Accept-Language: en-US,en;q=0.9",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Sec-WebSocket-Version: 13",
        "Origin: http://{host}",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Sec-WebSocket-Key: 5Xd4YbR0aTqsQQ0rGmNqTw==",
        "Sec-GPC: 1",
        "Connection: Upgrade",
        "Sec-Fetch-Dest: empty",
        "Sec-Fetch-Mode: websocket",
        "Sec-Fetch-Site: same-origin",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "Upgrade: websocket",
    ],
    "an older Firefox": [
        "Host: {host}",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:78.0) Gecko/20100101 Firefox/78.0",
        "Accept: */*",
        "Sec-WebSocket-Version: 13",
        "Origin: http://{host}",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Sec-WebSocket-Key: 5Xd4YbR0aTqsQQ0rGmNqTw==",
        "DNT: 1",
        "Connection: keep-alive, Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "Upgrade: websocket",
    ],
    "Chromium 156": [
        "Host: {host}",
        "Connection: Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 "
        "Safari/537.36",
        "Upgrade: websocket",
        "Origin: http://{host}",
        "Sec-WebSocket-Version: 13",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-US,en;q=0.9",
        "Cookie: session=0123456789abcdef; theme=dark",
        "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ],
    "Safari": [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Host: {host}",
        "Origin: http://{host}",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "User-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    ],
    "Node's ws": [
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Host: {host}",
    ],
    "Go's net/http": [
        "Host: {host}",
        "User-Agent: Go-http-client/1.1",
        "Connection: Upgrade",
        "Sec-Websocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-Websocket-Version: 13",
        "Upgrade: websocket",
    ],
    "a proxy in front": [
        "Host: {host}",
        "X-Forwarded-For: 192.0.2.1, 198.51.100.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443",
        "Via: 1.1 edge",
        "Forwarded: for=192.0.2.1;proto=https",
        "Connection: upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==",
        "Sec-WebSocket-Version: 13",
    ],
}


def _request_lines() -> Iterator[Case]:
    """Method, target and version."""

    def line(name: str, rule: str, legal: frozenset[int], ours: int, text: str) -> Case:
        wants = ("Allow",) if ours == 405 else ()
        return Case(name=name, rule=rule, legal=legal, ours=ours, request=ask(line=text), wants=wants)

    for method in ("POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        yield line(f"method {method}", "RFC 6455, 4.2.1 (1)", REFUSE, 405, f"{method} {{path}} HTTP/1.1")
    yield line("method CONNECT", "RFC 6455, 4.2.1 (1)", REFUSE, 405, "CONNECT {host} HTTP/1.1")
    for method in ("get", "Get", "GETT", "GE", "FOO", "G\x00ET", "G ET", '"GET"', ""):
        yield line(f"method {method!r}", "RFC 9110, 9.1", DROP, 400, f"{method} {{path}} HTTP/1.1")
    yield line("version 1.0", "RFC 6455, 4.2.1 (1)", REFUSE, 400, "GET {path} HTTP/1.0")
    yield line("version 1.2", "RFC 6455, 4.2.1 (1): 1.1 or higher", ANY, 400, "GET {path} HTTP/1.2")
    yield line("version 0.9", "RFC 6455, 4.2.1 (1)", REFUSE, 505, "GET {path} HTTP/0.9")
    yield line("version 2.0", "RFC 9112, 2.3 and RFC 9110, 15.6.6", REFUSE, 505, "GET {path} HTTP/2.0")
    yield line("version 3.0", "RFC 9112, 2.3 and RFC 9110, 15.6.6", REFUSE, 400, "GET {path} HTTP/3.0")
    for version in ("HTTP/1", "HTTP/11", "HTTP/1.10", "HTTP/01.1", "HTTP/1,1", "HTTP/1.x", "HTTP/+1.1", "HTTP /1.1"):
        yield line(f"version {version}", "RFC 9112, 2.3", DROP, 400, f"GET {{path}} {version}")
    for version in ("http/1.1", "Http/1.1", "HTTPS/1.1", "ICE/1.1", "X/1.1"):
        yield line(f"version {version}", "RFC 9112, 2.3", DROP, 400, f"GET {{path}} {version}")
    # llhttp reads it like HTTP; nobody between the client and us does, so there is nobody to disagree with.
    yield line("version RTSP/1.1", "RFC 9112, 2.2: SHOULD be refused", LENIENT, 101, "GET {path} RTSP/1.1")
    yield line("no version", "RFC 9112, 3", DROP, 505, "GET {path}")
    yield line("no target", "RFC 9112, 3", DROP, 400, "GET HTTP/1.1")
    yield line("an empty target", "RFC 9112, 3", DROP, 400, "GET  HTTP/1.1")
    yield line("a word too many", "RFC 9112, 3", DROP, 400, "GET {path} HTTP/1.1 HTTP/1.1")
    yield line("a space behind", "RFC 9112, 3: lenient parsing is allowed", LENIENT, 400, "GET {path} HTTP/1.1 ")
    yield line("a space in front", "RFC 9112, 3", LENIENT, 400, " GET {path} HTTP/1.1")
    yield line("two spaces", "RFC 9112, 3: lenient parsing is allowed", LENIENT, 101, "GET  {path} HTTP/1.1")
    yield line("two spaces before the version", "RFC 9112, 3: lenient", LENIENT, 101, "GET {path}  HTTP/1.1")
    yield line("tabs for spaces", "RFC 9112, 3: lenient parsing is allowed", LENIENT, 400, "GET\t{path}\tHTTP/1.1")
    yield line("a vertical tab for a space", "RFC 9112, 3: lenient", LENIENT, 400, "GET\x0b{path} HTTP/1.1")
    yield line("a space in the target", "RFC 9112, 3.2", DROP, 400, "GET {path}?a b HTTP/1.1")
    yield from (_target(name, value) for name, value in _TARGETS.items())
    yield line("target *", "RFC 9112, 3.2.4: for OPTIONS only", REFUSE, 400, "GET * HTTP/1.1")
    yield line("authority-form", "RFC 9112, 3.2.3: for CONNECT only", REFUSE, 400, "GET {host} HTTP/1.1")
    yield line("a relative target", "RFC 9112, 3.2", REFUSE, 400, "GET chat HTTP/1.1")
    yield line("a target of only a query", "RFC 9112, 3.2", REFUSE, 400, "GET ?a=b HTTP/1.1")
    for scheme in ("ws", "ftp", "javascript"):
        yield line(f"a {scheme} URL", "RFC 9112, 3.2.2; RFC 6455, 4.1", ANY, 400, f"GET {scheme}://{{host}}/ HTTP/1.1")
    yield line("absolute-form, other host", "RFC 9112, 3.2", ANY, 400, "GET http://other.invalid{path} HTTP/1.1")
    yield line("absolute-form, user", "RFC 9110, 4.2.4", ANY, 400, "GET http://user@{host}{path} HTTP/1.1")
    yield line("absolute-form, no host", "RFC 9110, 4.2.1", REFUSE, 400, "GET http:///chat HTTP/1.1")


_TARGETS = {
    "NUL": "\x00",
    "an escape": "\x1b",
    "DEL": "\x7f",
    "a byte over 0x7F": "\xff",
    "UTF-8": "\xc3\xa9",
    "a carriage return": "\r",
}


def _target(name: str, value: str) -> Case:
    request = ask(line=f"GET {{path}}?{value} HTTP/1.1")
    return Case(name=f"{name} in the target", rule="RFC 9112, 3.2", legal=LENIENT, ours=400, request=request)


def _hosts() -> Iterator[Case]:
    """RFC 9112, 3.2: one Host, and a valid one, else 400."""

    def host(
        value: str | Sequence[str] | None, legal: frozenset[int], ours: int, *, rule: str = "RFC 9112, 3.2"
    ) -> Case:
        return Case(name=f"Host {value!r}", rule=rule, legal=legal, ours=ours, request=ask({"Host": value}))

    yield host(None, BAD, 400)
    yield host(["{host}", "{host}"], BAD, 400)
    yield host(["{host}", "other.invalid"], BAD, 400)
    yield host(["other.invalid", "{host}"], BAD, 400)
    for value in ("a b", "http://a", "a/b", "a?b", "a#b", "user@a", "a\\b", "a:b", "a:80:80", "[::1", "::1", "[::g]"):
        yield host(value, BAD, 400)
    for value in ("a\x00b", "\xff", "a\x0bb", "a<b>", "[]"):
        yield host(value, BAD, 400)
    yield host("", ANY, 400, rule="RFC 9110, 4.2.1: an http URL has a host")
    yield host("a,b", ANY, 400, rule="RFC 9112, 3.2: two hosts that were merged")
    yield host("a:99999", ANY, 400, rule="RFC 9110, 4.2.1: no TCP port")
    yield host("%61", ANY, 400, rule="RFC 3986, 3.2.2: nobody's name")
    yield host("[v1.a]", ANY, 400, rule="RFC 3986, 3.2.2: nobody's address")
    for value in (
        "EXAMPLE.org",
        "a_b",
        "a.",
        "a:",
        "a:80",
        "192.0.2.1:80",
        "[::1]",
        "[::1]:80",
        "xn--bcher-kva.example",
    ):
        yield host(value, ANY, 101, rule="RFC 9112, 3.2; whether it is served is the server's affair")
    request = ask({"Host": None}, line="GET http://{host}{path} HTTP/1.1")
    yield Case(name="absolute-form without Host", rule="RFC 9112, 3.2", legal=BAD, ours=400, request=request)
    request = "GET {path} HTTP/1.1\r\n\r\n"
    yield Case(name="no headers at all", rule="RFC 9112, 3.2", legal=BAD, ours=400, request=request)


def _upgrades() -> Iterator[Case]:
    """RFC 6455, 4.2.1 (3) and (4)."""

    def plain(name: str, changes: Changes, *, rule: str, legal: frozenset[int] = PLAIN, ours: int = 426) -> Case:
        wants = ("Upgrade",) if ours == 426 else ()
        return Case(name=name, rule=rule, legal=legal, ours=ours, request=ask(changes), wants=wants)

    for value in (
        None,
        "",
        "websockets",
        "xwebsocket",
        "web socket",
        '"websocket"',
        "websocket/13",
        "websocket;a=b",
        "h2c",
    ):
        yield plain(f"Upgrade {value!r}", {"Upgrade": value}, rule="RFC 6455, 4.2.1 (3)")
    for value in (
        None,
        "",
        "keep-alive",
        "close",
        "Upgrades",
        "xupgrade",
        "keep-alive Upgrade",
        '"Upgrade"',
        "Upgrade;q=1",
    ):
        yield plain(f"Connection {value!r}", {"Connection": value}, rule="RFC 6455, 4.2.1 (4)")
    for byte in "\x0b\x0c\x1c\x1d\x1e\x85\xa0":
        rule = "RFC 6455, 4.2.1 (4); RFC 9110, 5.6.3: not white space"
        ours = 426 if byte == "\xa0" else 400
        yield plain(f"Connection {byte + 'Upgrade'!r}", {"Connection": f"{byte}Upgrade"}, rule=rule, ours=ours)
    yield plain(
        "Connection: close, Upgrade", {"Connection": "close, Upgrade"}, rule="RFC 9112, 9.6", legal=ANY, ours=101
    )
    yield plain("neither", {"Upgrade": None, "Connection": None}, rule="RFC 6455, 4.2.1")


def _keys() -> Iterator[Case]:
    """RFC 6455, 4.2.1 (5): one key, the base64 form of 16 bytes."""
    for value in (
        None,
        "",
        "x",
        "not base64 at all!!!!!!==",
        "AAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAAAA===",
        "AAAAAAAAAAAAAAAAAAAAAA==AAAA",
        "=AAAAAAAAAAAAAAAAAAAAAA==",
        "AAAAAAAAAAA AAAAAAAAAAA==",
        "_-_-_-_-_-_-_-_-_-_-_w==",
        f"{KEY},",
        f"{KEY}, {KEY}",
        f'"{KEY}"',
        KEY * 200,
        [KEY, KEY],
        [KEY, "AAAAAAAAAAAAAAAAAAAAAA=="],
        [KEY, ""],
    ):
        shown = f"{KEY} 200 times" if value == KEY * 200 else repr(value)
        request = ask({"Sec-WebSocket-Key": value})
        yield Case(
            name=f"key {shown}",
            rule="RFC 6455, 4.2.1 (5)",
            legal=REFUSE,
            ours=400,
            request=request,
            proxied=not isinstance(value, list) and value != "",
        )
    request = ask({"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAB=="})
    yield Case(name="key with stray last bits", rule="RFC 4648, 3.5", legal=ANY, ours=101, request=request)


def _versions() -> Iterator[Case]:
    """RFC 6455, 4.2.1 (6) and 4.4: only 13, and the refusal names it."""
    values = [
        None,
        "",
        "0",
        "4",
        "6",
        "7",
        "8",
        "12",
        "14",
        "25",
        "99",
        "255",
        "256",
        "13.0",
        "013",
        "+13",
        "1 3",
        "0x0d",
    ]
    values += ["13;", "13, 8", "8, 13", "13, 13", "thirteen", '"13"', "13\xa0"]
    for value in values:
        yield _version(f"version {value!r}", value, proxied=value != "")
    for lines in (["13", "8"], ["8", "13"], ["13", "13"], ["13", ""]):
        yield _version(f"versions over lines: {lines}", lines, proxied=False)
    for version in ("7", "8"):
        request = ask({"Sec-WebSocket-Version": version, "Sec-WebSocket-Origin": "http://{host}"})
        yield Case(
            name=f"draft {version}",
            rule="RFC 6455, 4.4",
            legal=REFUSE,
            ours=426,
            request=request,
            wants=("Sec-WebSocket-Version",),
        )
    hixie: Changes = {"Sec-WebSocket-Key": None, "Sec-WebSocket-Version": None, "Origin": "http://{host}"}
    rule = "RFC 6455, 4.2.1: another protocol"
    yield Case(name="draft 75", rule=rule, legal=PLAIN, ours=426, request=ask(hixie))
    request = ask(
        {**hixie, "Sec-WebSocket-Key1": "4 @1  46546xW%0l 1 5", "Sec-WebSocket-Key2": "12998 5 Y3 1  .P00"},
        body="^n:ds[4U",
    )
    yield Case(name="draft 76", rule=rule, legal=PLAIN, ours=426, request=request)


def _version(name: str, value: str | list[str] | None, *, proxied: bool) -> Case:
    return Case(
        name=name,
        rule="RFC 6455, 4.2.1 (6) and 4.4",
        legal=REFUSE,
        ours=426,
        request=ask({"Sec-WebSocket-Version": value}),
        wants=("Sec-WebSocket-Version",),
        proxied=proxied,
    )


def _lines() -> Iterator[Case]:
    """How header lines are made (RFC 9112, 2.2 and 5)."""

    def lines(name: str, rule: str, request: str, *, legal: frozenset[int] = LENIENT, ours: int = 400) -> Case:
        return Case(name=name, rule=rule, legal=legal, ours=ours, request=request)

    for blank, shown in ((" ", "a space"), ("\t", "a tab"), (" \t ", "blanks")):
        yield lines(f"{shown} before a colon", "RFC 9112, 5.1", ask(extra=f"X-Custom{blank}: a\r\n"), legal=BAD)
        yield lines(
            f"{shown} before Upgrade's colon", "RFC 9112, 5.1", ask().replace("Upgrade:", f"Upgrade{blank}:"), legal=BAD
        )
    fold = "RFC 9112, 5.2: refused, or read as a space"
    yield lines("a folded header", fold, ask(extra="X-Custom: a\r\n b\r\n"))
    yield lines("a folded header, tab", fold, ask(extra="X-Custom: a\r\n\tb\r\n"))
    yield lines("a folded Connection", fold, ask({"Connection": "keep-alive,\r\n Upgrade"}))
    yield lines("a folded key", fold, ask({"Sec-WebSocket-Key": f"\r\n {KEY}"}))
    yield lines("a fold of only blanks", fold, ask(extra="X-Custom: a\r\n \r\n"))
    first = "RFC 9112, 2.2: rejected, or the line is left out"
    yield lines("blanks before the first header", first, ask().replace("Host:", " Host:", 1), ours=400)
    for text, shown in (
        ("nocolon", "a line without a colon"),
        (": a", "an empty name"),
        ("X Y: a", "a space in a name"),
    ):
        yield lines(shown, "RFC 9112, 5 and RFC 9110, 5.1", ask(extra=f"{text}\r\n"), legal=DROP)
    for byte in '\x00\x0b\x1c\x7f\x80\xff()<>@,;\\"/[]?={}':
        yield lines(f"{byte!r} in a name", "RFC 9110, 5.1", ask(extra=f"X{byte}Y: a\r\n"), legal=DROP)
    for byte in "\x00\r\n":
        rule = "RFC 9110, 5.5: refused, or read as a space" if byte != "\n" else "RFC 9112, 2.2; 5"
        yield lines(f"{byte!r} in a value", rule, ask({"X-Custom": f"a{byte}b"}))
    for byte in "\x01\x07\x08\x0b\x0c\x1b\x1c\x1d\x1e\x1f\x7f\x80\x85\x9f":
        yield lines(f"{byte!r} in a value", "RFC 9110, 5.5", ask({"X-Custom": f"a{byte}b"}))
        yield lines(f"{byte!r} around a value", "RFC 9110, 5.5", ask({"X-Custom": f"{byte}a{byte}"}))
    yield lines("ISO 8859-1 in a value", "RFC 9110, 5.5", ask({"X-Custom": "caf\xe9"}), ours=101)
    yield lines("U+2028 in a value", "RFC 9110, 5.5", ask({"X-Custom": "a\xe2\x80\xa8b"}), ours=101)
    yield lines("U+0085 in a value", "RFC 9110, 5.5", ask({"X-Custom": "a\xc2\x85b"}))
    feed = "RFC 9112, 2.2: a single LF may be taken as the end of a line"
    yield lines("bare LF everywhere", feed, ask().replace("\r\n", "\n"))
    yield lines("bare LF after the request line", feed, ask().replace("\r\n", "\n", 1))
    yield lines("bare LF after a header", feed, ask(extra="X-Custom: a\n"))
    yield lines("bare LF at the end", feed, ask().removesuffix("\r\n") + "\n")
    cr = "RFC 9112, 2.2: a bare CR is no line end"
    yield lines("CR CR LF", cr, ask(extra="X-Custom: a\r\r\n"))
    yield lines("bare CR everywhere", cr, ask().replace("\r\n", "\r") + "\r\n\r\n", legal=DROP)
    yield lines("an empty line in front", "RFC 9112, 2.2: SHOULD be ignored", "\r\n" + ask(), ours=101)
    yield lines("three empty lines in front", "RFC 9112, 2.2", "\r\n" * 3 + ask(), ours=101)


def _bodies() -> Iterator[Case]:
    """A request that claims a body: where it ends, two programs could disagree."""

    def body(name: str, changes: Changes, text: str = "", *, legal: frozenset[int] = ANY, rule: str = "") -> Case:
        rule = rule or "RFC 9112, 6: against smuggling"
        return Case(name=name, rule=rule, legal=legal, ours=400, request=ask(changes, body=text))

    request = ask({"Content-Length": "0"})
    yield Case(name="Content-Length 0", rule="RFC 9112, 6.2: no body", legal=ANY, ours=101, request=request)
    yield body("a body", {"Content-Length": "5"}, "hello")
    yield body("a request as body", {"Content-Length": str(len(SMUGGLED))}, SMUGGLED)
    yield body("a body that does not come", {"Content-Length": "100000"})
    yield body("a chunked body", {"Transfer-Encoding": "chunked"}, "5\r\nhello\r\n0\r\n\r\n")
    yield body("an empty chunked body", {"Transfer-Encoding": "chunked"}, "0\r\n\r\n")
    yield body(
        "a request as a chunk", {"Transfer-Encoding": "chunked"}, f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n0\r\n\r\n"
    )
    both = {"Content-Length": "4", "Transfer-Encoding": "chunked"}
    yield body("both lengths", both, "0\r\n\r\n", rule="RFC 9112, 6.3 (3)")
    yield body("both lengths, other order", dict(reversed(both.items())), "0\r\n\r\n", rule="RFC 9112, 6.3 (3)")
    yield body("two lengths", {"Content-Length": ["0", "5"]}, "hello", legal=BAD, rule="RFC 9112, 6.3 (5)")
    yield body("two lengths in one", {"Content-Length": "0, 5"}, "hello", legal=BAD, rule="RFC 9112, 6.3 (5)")
    yield body("the same length twice", {"Content-Length": ["0", "0"]}, rule="RFC 9112, 6.3 (5)")
    yield body("the same length twice in one", {"Content-Length": "0, 0"}, rule="RFC 9112, 6.3 (5)")
    for value in ("-1", "+0", "0x0", "1e1", "0 0", "five", "0;", "9" * 40, "\x0b0"):
        yield body(f"length {value[:20]!r}", {"Content-Length": value}, legal=BAD, rule="RFC 9112, 6.3 (5)")
    yield body("an empty length", {"Content-Length": ""}, legal=BAD, rule="RFC 9112, 6.3 (5)")
    yield body("length 00", {"Content-Length": "00"}, rule="RFC 9110, 8.6; no client sends it")
    for value in ("identity", "gzip", "xchunked", "chunked, identity", "chunked, chunked", '"chunked"', "\x0bchunked"):
        rule = "RFC 9112, 6.1 and 6.3 (4)"
        legal = REFUSE if value != "identity" else ANY
        yield body(f"coding {value!r}", {"Transfer-Encoding": value}, legal=legal, rule=rule)
    yield body("two codings", {"Transfer-Encoding": ["chunked", "identity"]}, legal=REFUSE, rule="RFC 9112, 6.3 (4)")
    request = ask({"Expect": "100-continue"})
    yield Case(name="Expect without a body", rule="RFC 9110, 10.1.1", legal=ANY, ours=101, request=request)


def _sizes() -> Iterator[Case]:
    """Bounds: any server has them, and says 431 or 414 past them (RFC 6585, 5; RFC 9110, 15.5.15)."""

    def size(name: str, request: str, ours: int, *, legal: frozenset[int] = ANY) -> Case:
        return Case(name=name, rule="RFC 6585, 5: bounds", legal=legal, ours=ours, request=request)

    for count in (90, 95):
        yield size(f"{count} more headers", ask(extra=_many(count)), 101)
    for count in (96, 1000, 20000):
        yield size(f"{count} more headers", ask(extra=_many(count)), 431)
    yield size("1000 headers of one name", ask(extra="X: a\r\n" * 1000), 431)
    for kib in (1, 4, 8, 15):
        yield size(f"a cookie of {kib} KiB", ask({"Cookie": "a=" + "b" * 1024 * kib}), 101)
    for kib in (16, 64, 1024):
        yield size(f"a cookie of {kib} KiB", ask({"Cookie": "a=" + "b" * 1024 * kib}), 431)
    for kib in (1, 8, 15):
        yield size(f"a target of {kib} KiB", ask(line=f"GET {{path}}?{'a' * 1024 * kib} HTTP/1.1"), 101)
    for kib in (16, 128):
        yield size(f"a target of {kib} KiB", ask(line=f"GET {{path}}?{'a' * 1024 * kib} HTTP/1.1"), 431)
    yield size("a name of 17 KiB", ask({"X" * 1024 * 17: "a"}), 431)
    yield size("a method of 17 KiB", ask(line=f"{'G' * 1024 * 17} {{path}} HTTP/1.1"), 400, legal=DROP)
    yield size("subprotocols of 12 KiB", ask({"Sec-WebSocket-Protocol": ", ".join(map(str, range(2000)))}), 101)


def _many(count: int) -> str:
    return "".join(f"X-{number}: a\r\n" for number in range(count))


def _strangers() -> Iterator[Case]:
    """Other protocols on this port."""

    def stranger(name: str, request: str, *, rule: str = "RFC 9112, 2.2") -> Case:
        return Case(name=name, rule=rule, legal=DROP, ours=400, request=request)

    yield stranger("HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", rule="RFC 9113, 3.4")
    yield stranger("TLS on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 64)
    yield stranger("SSH", "SSH-2.0-OpenSSH_9.2\r\n")
    yield stranger("NULs", "\x00" * 64)
    yield stranger("a WebSocket frame", "\x81\x85abcd" + "\x00" * 5)
    rule = "a proxy's word on the client's address is taken from no stranger"
    yield stranger("the PROXY protocol", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + ask(), rule=rule)
    signature = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + "\x00" * 12
    yield stranger("the PROXY protocol, binary", signature + ask(), rule=rule)


CASES: tuple[Case, ...] = (
    *_good(),
    *_lists(),
    *_real(),
    *_request_lines(),
    *_hosts(),
    *_upgrades(),
    *_keys(),
    *_versions(),
    *_lines(),
    *believed(),
    *_bodies(),
    *_sizes(),
    *_strangers(),
)
"""All cases, by subject."""
