"""The opening handshake: what is accepted, what is refused and how, and what the answers look like on the wire."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from fairlead.wire.extensions import Extension
from fairlead.wire.heads import NAMES, Head
from fairlead.wire.opening import Opening, Refusal, judge, open_head, parse_head, refusal_head

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, 1.3
GOOD = (
    (b"Host", b"example.com"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", KEY),
)
Fields = Iterable[tuple[bytes, bytes]]


def changed(name: bytes, *values: bytes) -> list[tuple[bytes, bytes]]:
    """The good header list with the lines of one name replaced."""
    return [field for field in GOOD if field[0] != name] + [(name, value) for value in values]


def ask(
    headers: Fields = GOOD, target: bytes = b"/", method: bytes = b"GET", version: str = "1.1"
) -> Opening | Refusal:
    return judge(method, target, version, list(headers))


def accepted(headers: Fields = GOOD, target: bytes = b"/") -> Opening:
    verdict = ask(headers, target)
    assert isinstance(verdict, Opening), verdict
    return verdict


def refused(
    headers: Fields = GOOD, target: bytes = b"/", method: bytes = b"GET", version: str = "1.1", *, status: int = 400
) -> Refusal:
    verdict = ask(headers, target, method, version)
    assert isinstance(verdict, Refusal), verdict
    assert verdict.status == status
    return verdict


def test_accepts_the_example_of_the_rfc() -> None:
    opening = accepted(target=b"/chat?room=a?b")
    assert opening.accept == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert (opening.path, opening.query, opening.host) == (b"/chat", b"room=a?b", b"example.com")
    assert (opening.subprotocols, opening.extensions) == ((), ())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (b"Connection", [b"keep-alive, Upgrade"]),  # Firefox
        (b"Connection", [b"keep-alive", b"UPGRADE"]),
        (b"Connection", [b",,\t upgrade ,"]),
        (b"Upgrade", [b"WebSocket"]),
        (b"Upgrade", [b"h2c", b"websocket"]),
        (b"Upgrade", [b"h2c , websocket"]),
        (b"Sec-WebSocket-Version", [b" 13\t"]),
        (b"Content-Length", [b"0"]),
        (b"Host", [b"[::1]:8100"]),
        (b"Host", [b"127.0.0.1:65535"]),
        (b"Host", [b"a_b.example:"]),
        (b"Host", [b"EXAMPLE.com."]),
        (b"X-Empty", [b""]),
        (b"Cookie", [b"a=1\tb", "n=Дарья".encode(), "n=naïve".encode("latin-1")]),
        (b"Cookie", ["n=хх".encode()]),  # its UTF-8 has the byte 0x85, but it is no NEL
    ],
)
def test_accepts(name: bytes, values: list[bytes]) -> None:
    accepted(changed(name, *values))


def test_names_are_found_in_any_case() -> None:
    accepted((name.upper(), value) for name, value in GOOD)
    accepted((name.lower(), value) for name, value in GOOD)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"//evil.example/x", b"//evil.example/x", b""),
        (b"/%2e%2e;a/?", b"/%2e%2e;a/", b""),
        (b"/a?b=[{|}]\\^%", b"/a", b"b=[{|}]\\^%"),
        (b"http://example.com/a?b", b"/a", b"b"),
        (b"HTTPS://EXAMPLE.com", b"/", b""),
        (b"http://example.com?a=/b", b"/", b"a=/b"),
    ],
)
def test_splits_the_target(target: bytes, path: bytes, query: bytes) -> None:
    opening = accepted(target=target)
    assert (opening.path, opening.query) == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"example.com:80",
        b"chat",
        b"ws://example.com/",
        b"file://example.com/",
        b"http:/example.com/",
        b"http://other.example/",
        b"http://user@example.com/",
        b"http://example.com:80/",
        b"http:///",
        b"/a#b",
        b"/a b",
        b"/a\tb",
        b"/a\r\nb",
        b"/a\x00",
        b"/a\x7f",
        b"/\xc3\xa9",
        b"/\x85",
    ],
)
def test_refuses_the_target(target: bytes) -> None:
    refused(target=target)


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"CONNECT", b"OPTIONS", b"get", b"GETX"])
def test_another_method_is_405_with_allow(method: bytes) -> None:
    assert refused(method=method, status=405).headers == ((b"Allow", b"GET"),)


@pytest.mark.parametrize("method", [b"", b"GE T", b"GET\r\n", b"G\xcbT"])
def test_a_method_that_is_no_token_is_400(method: bytes) -> None:
    refused(method=method)


def test_a_refused_head_request_gets_no_content() -> None:
    assert refused(method=b"HEAD", status=405).response().endswith(b"\r\n\r\n")


@pytest.mark.parametrize(("version", "status"), [("1.0", 400), ("1.2", 400), ("2.0", 505), ("0.9", 505), ("", 505)])
def test_only_http_1_1(version: str, status: int) -> None:
    refused(version=version, status=status)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"a", b"a"],
        [b"a b"],
        [b"a,b"],
        [b"user@a"],
        [b"http://a"],
        [b"a/b"],
        [b"a:b"],
        [b"a:1:2"],
        [b"a:65536"],
        [b"a:" + b"9" * 5000],
        [b":80"],
        [b"[::1"],
        [b"::1"],
        [b"[::1]x"],
        [b"[]"],
        [b"[1.2.3.4]"],
        [b"[fe80::1%eth0]"],
        [b"[:::]"],
        [b"a%2eb"],
        [b"\xd0\xb0"],
    ],
)
def test_refuses_the_host(values: list[bytes]) -> None:
    refused(changed(b"Host", *values))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (b"Content-Length", [b"1"]),
        (b"Content-Length", [b"00"]),
        (b"Content-Length", [b""]),
        (b"Content-Length", [b"0", b"0"]),
        (b"Content-Length", [b"0, 0"]),
        (b"Transfer-Encoding", [b"chunked"]),
        (b"Transfer-Encoding", [b"identity"]),
        (b"Transfer-Encoding", [b""]),
    ],
)
def test_refuses_a_body(name: bytes, values: list[bytes]) -> None:
    refused(changed(name, *values))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (b"Upgrade", []),
        (b"Upgrade", [b""]),
        (b"Upgrade", [b"h2c"]),
        (b"Upgrade", [b"websocket/13"]),
        (b"Upgrade", [b"notwebsocket"]),
        (b"Upgrade", [b"web socket"]),
        (b"Connection", []),
        (b"Connection", [b"keep-alive"]),
        (b"Connection", [b"notupgrade"]),
        (b"Connection", [b"close; upgrade"]),
        (b"Sec-WebSocket-Version", []),
        (b"Sec-WebSocket-Version", [b"7"]),
        (b"Sec-WebSocket-Version", [b"8"]),
        (b"Sec-WebSocket-Version", [b"013"]),
        (b"Sec-WebSocket-Version", [b"13, 8"]),
        (b"Sec-WebSocket-Version", [b"8", b"13"]),
        (b"Sec-WebSocket-Version", [b"13", b"13"]),
        (b"Sec-WebSocket-Version", [b"99"]),
    ],
)
def test_what_asks_for_no_websocket_or_another_version_is_426(name: bytes, values: list[bytes]) -> None:
    refusal = refused(changed(name, *values), status=426)
    assert refusal.headers == ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13"))


def test_the_drafts_before_the_rfc_are_426() -> None:
    hixie_75 = [(b"Host", b"a"), (b"Upgrade", b"WebSocket"), (b"Connection", b"Upgrade"), (b"Origin", b"http://a")]
    hixie_76 = [
        *hixie_75,
        (b"Sec-WebSocket-Key1", b"4 @1  46546xW%0l 1 5"),
        (b"Sec-WebSocket-Key2", b"12998 5 Y3 1  .P00"),
    ]
    refused(hixie_75, status=426)
    refused(hixie_76, status=426)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [KEY, KEY],
        [KEY + b"," + KEY],
        [KEY[:-1]],
        [KEY[:-2]],
        [KEY + b"="],
        [KEY[:4]],
        [KEY + KEY],
        [b"dGhlIHNhbXBs\tZSBub25jZQ=="],
        [b"dGhlIHNhbXBsZSBub25jZ_=="],
        [b"dGhlIHNhbXBsZSBub25jZSE="],  # 17 bytes
        [b"dGhlIHNhbXBsZSBub25j"],  # 15 bytes
        ["é".encode() * 12],
    ],
)
def test_refuses_the_key(values: list[bytes]) -> None:
    refused(changed(b"Sec-WebSocket-Key", *values))


def test_a_control_byte_in_a_value_is_refused_and_never_sent() -> None:
    for byte in (*range(9), *range(10, 32), *range(127, 160)):
        value = b"a" + bytes([byte]) + b"b"
        refused([*GOOD, (b"X-Any", value)])
        with pytest.raises(ValueError):
            accepted().response([(b"X-Any", value)])


def test_nel_in_utf8_is_a_control_character_too() -> None:
    refused([*GOOD, (b"X-Any", "a\x85b".encode())])


def test_a_name_is_a_token() -> None:
    token = set(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for byte in range(256):
        verdict = ask([*GOOD, (b"X" + bytes([byte]), b"")])
        assert isinstance(verdict, Opening) == (byte in token), byte
    refused([*GOOD, (b"", b"x")])


def test_subprotocols_of_all_lines_in_order() -> None:
    opening = accepted(changed(b"Sec-WebSocket-Protocol", b"chat, superchat", b"v2.chat ,,"))
    assert opening.subprotocols == ("chat", "superchat", "v2.chat")


@pytest.mark.parametrize("values", [[b""], [b" , "], [b"a, a"], [b"a", b"a"], [b"a b"], [b"a;b"], [b'"a"'], [b"\xe9"]])
def test_refuses_the_subprotocols(values: list[bytes]) -> None:
    refused(changed(b"Sec-WebSocket-Protocol", *values))


def test_reads_the_extensions() -> None:
    lines = [b"permessage-deflate; client_max_window_bits", b'x; y="a", permessage-deflate']
    assert accepted(changed(b"Sec-WebSocket-Extensions", *lines)).extensions == (
        Extension("permessage-deflate", (("client_max_window_bits", None),)),
        Extension("x", (("y", "a"),)),
        Extension("permessage-deflate"),
    )


@pytest.mark.parametrize("values", [[b""], [b","], [b"x;"], [b"x; y="], [b'x; y="a, b"'], [b"x", b"y z"], [b"\xe9"]])
def test_refuses_the_extensions(values: list[bytes]) -> None:  # RFC 6455, 9.1
    refused(changed(b"Sec-WebSocket-Extensions", *values))


def test_the_101() -> None:
    assert accepted().response() == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


def test_the_101_with_everything() -> None:
    opening = accepted(changed(b"Sec-WebSocket-Protocol", b"a, b"))
    response = opening.response([(b"Set-Cookie", b"a=\xc3\xa9")], subprotocol="b", extensions=b"permessage-deflate")
    assert response.endswith(
        b"\r\nSec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: permessage-deflate"
        b"\r\nSet-Cookie: a=\xc3\xa9\r\n\r\n"
    )


@pytest.mark.parametrize(
    "field",
    [
        (b"", b"a"),
        (b"a b", b""),
        (b"a:", b""),
        (b"a\r\nb", b""),
        (b"a", b"b\r\nc: d"),
        (b"a", b"\x00"),
        (b"a", b"\xc2\x85"),
    ]
    + [(name, b"x") for name in (b"Connection", b"UPGRADE", b"content-length", b"Transfer-Encoding")]
    + [(name, b"x") for name in (b"Sec-WebSocket-Accept", b"Sec-WebSocket-Protocol", b"sec-websocket-extensions")],
)
def test_a_header_that_must_not_be_sent_raises(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        accepted().response([field])
    with pytest.raises(ValueError):
        refused(method=b"POST", status=405).response([field])


def test_only_an_offered_subprotocol_can_be_chosen() -> None:
    with pytest.raises(ValueError, match="did not offer"):
        accepted(changed(b"Sec-WebSocket-Protocol", b"a")).response(subprotocol="A")


def test_agreed_extensions_are_checked_like_any_value() -> None:
    with pytest.raises(ValueError):
        accepted().response(extensions=b"a\r\nb: c")


def test_a_refusal_on_the_wire_closes_and_counts_its_body() -> None:
    head, _, body = refused([]).response([(b"Date", b"now")]).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 400 Bad Request",
        b"Connection: close",
        b"Content-Length: %d" % len(body),
        b"Content-Type: text/plain; charset=utf-8",
        b"Date: now",
    ]
    assert body == b"There must be exactly one Host, and a valid one.\n"


def test_426_names_what_to_upgrade_to() -> None:
    head = refused([(b"Host", b"a")], status=426).response().partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert {b"Connection: close, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"} < set(head)


@pytest.mark.parametrize(
    ("status", "first"), [(200, b"200 OK"), (418, b"418 I'm a Teapot"), (499, b"499 "), (599, b"599 ")]
)
def test_a_refusal_has_any_final_status_and_always_closes(status: int, first: bytes) -> None:
    head = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 3\r\n\r\n" % first
    assert refusal_head(status, [(b"Content-Length", b"3")]) == head


@pytest.mark.parametrize("status", [-1, 0, 101, 199, 600])
def test_another_status_is_none_of_a_refusal(status: int) -> None:
    with pytest.raises(ValueError):
        refusal_head(status, [])


def test_a_refusal_cannot_be_split() -> None:
    for field in ((b"a", b"b\r\nc: d"), (b"a\nb", b""), (b"a", b"\x0b"), (b"a", b"\x85")):
        with pytest.raises(ValueError):
            Refusal(400, b"", (field,)).response()
        with pytest.raises(ValueError):
            refusal_head(400, [field])


def test_a_parsed_head_is_what_judge_takes() -> None:
    head = parse_head(b"GET / HTTP/1.1\r\n" + b"".join(b"%s: %s\r\n" % field for field in GOOD) + b"\r\n")
    assert isinstance(head, Head)
    assert judge(*head) == accepted()


def test_a_head_is_judged_at_once_or_not_at_all() -> None:
    lines = [b"GET / HTTP/1.1\r\n", *(b"%s: %s\r\n" % field for field in GOOD), b"\r\n"]
    opened = open_head(b"".join(lines))
    assert opened == (accepted(), [(name.lower(), value) for name, value in GOOD])
    assert all(name is NAMES[name] for name, _ in opened[1])  # kept once for all connections
    assert open_head(b"".join(lines[:-1])) is None
    assert open_head(b"".join(lines).replace(b"13", b"8")) is None


def test_values_do_not_make_letters_together() -> None:
    for values in ([b"a=\xd0", b"\x85=b"], [b"a=\xd0\x85", b"\x85"], ["a=\x85".encode()]):
        refused(changed(b"Cookie", *values))
    accepted(changed(b"Cookie", b"a=\xd0", b"a=\xd0\x85"))


def test_a_head_that_cannot_be_read_is_refused() -> None:
    refusal = parse_head(b"GET / HTTP/1.1\nHost: example.com\n\n")
    assert refusal == Refusal(400, b"The request line is malformed.\n")
    assert open_head(b"GET / HTTP/1.1\nHost: example.com\n\n") is None
