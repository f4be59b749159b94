"""Which headers the ask carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from fairlead.gateway.headers import BadHeader, HeaderMap
from fairlead.gateway.settings import Header
from fairlead.handshake import Request

OURS = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: chat.example", "X-Request-ID: r1"]


def build(
    headers: Sequence[tuple[bytes, bytes]] = (),
    query: bytes = b"",
    table: Mapping[str, Header] | None = None,
    client: str = "192.0.2.1",
    request_id: str = "r1",
) -> list[str]:
    """The lines of the block; those the gateway knows by itself are left out if they are as usual."""
    request = Request({"path": "/ws/", "query_string": query, "headers": list(headers)})
    block = HeaderMap(table).build(request, client=client, scheme="https", host="chat.example", request_id=request_id)
    return [line for line in block.decode().split("\r\n") if line not in OURS]


def test_forwarded_by_default_and_nothing_else() -> None:
    sent = [
        (b"host", b"chat.example"),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"cookie", b"sid=1"),
        (b"authorization", b"Bearer x"),
        (b"user-agent", b"Mozilla/5.0"),
        (b"accept-language", b"de, en;q=0.5"),
        (b"origin", b"https://chat.example"),
        (b"traceparent", b"00-0af7-b7ad-01"),
        (b"accept-encoding", b"gzip"),
        (b"x-forwarded-for", b"6.6.6.6"),
        (b"x-forwarded-host", b"evil"),
        (b"x-real-ip", b"6.6.6.6"),
        (b"x-request-id", b"forged"),
        (b"x-fairlead-signature", b"forged"),
        (b"x-csrftoken", b"forged"),
    ]
    assert build(sent) == [
        "Cookie: sid=1",
        "Authorization: Bearer x",
        "User-Agent: Mozilla/5.0",
        "Accept-Language: de, en;q=0.5",
        "Origin: https://chat.example",
        "traceparent: 00-0af7-b7ad-01",
    ]


def test_what_the_gateway_knows_is_set_with_exactly_one_address() -> None:
    request = Request({"path": "/", "headers": [(b"x-forwarded-for", b"6.6.6.6")]})
    block = HeaderMap().build(request, client="192.0.2.1", scheme="https", host="chat.example", request_id="r1")
    assert block.decode().split("\r\n") == OURS


def test_no_address_no_forwarded_for() -> None:
    assert not any(line.startswith("X-Forwarded-For") for line in build(client=""))


def test_several_cookie_lines_become_one() -> None:
    assert build([(b"cookie", b"a=1"), (b"cookie", b"b=2; c=3")]) == ["Cookie: a=1; b=2; c=3"]


def test_other_repeated_headers_become_a_list() -> None:
    assert build([(b"accept-language", b"de"), (b"accept-language", b"en")]) == ["Accept-Language: de, en"]


def test_empty_values_count_as_absent() -> None:
    assert build([(b"cookie", b""), (b"authorization", b"")], b"token=") == []


def test_csrf_token_comes_from_its_cookie() -> None:
    assert build([(b"cookie", b"sid=1; csrftoken=abc")]) == ["Cookie: sid=1; csrftoken=abc", "X-CSRFToken: abc"]


def test_cookie_bytes_arrive_as_they_were_sent_but_for_quotes_and_blanks_around_them() -> None:
    assert build([(b"cookie", "csrftoken=\u00e9\u4e2d".encode())])[-1] == "X-CSRFToken: \u00e9\u4e2d"
    assert build([(b"cookie", b'csrftoken= "a b" ')])[-1] == "X-CSRFToken: a b"


def test_token_of_the_query_becomes_an_authorization() -> None:
    assert build(query=b"a=1&token=its%20me") == ["Authorization: Token its me"]


def test_the_clients_own_authorization_goes_before_the_token() -> None:
    assert build([(b"authorization", b"Bearer x")], b"token=y") == ["Authorization: Bearer x"]


def test_false_drops_a_default() -> None:
    assert build([(b"cookie", b"a=1"), (b"user-agent", b"x")], table={"cOOkie": False}) == ["User-Agent: x"]
    assert build([(b"authorization", b"x")], b"token=y", table={"Authorization": False}) == []


def test_a_table_replaces_a_default_whole() -> None:
    table = {"authorization": {"query": "key", "format": "Key <{}>!"}}
    assert build([(b"authorization", b"x")], b"token=y&key=z", table=table) == ["authorization: Key <z>!"]
    assert build([(b"authorization", b"x")], b"token=y", table=table) == []


def test_tables_add_headers_from_every_source() -> None:
    table: Mapping[str, Header] = {
        "X-Real-IP": {"header": "X-Real-IP"},
        "X-Session": {"cookie": "sid", "format": "id={}"},
        "Referer": {"value": "https://\u00fc.example"},
        "X-Page": {"query": "page"},
        "X-Same": {"header": "cookie"},
    }
    sent = [(b"x-real-ip", b"192.0.2.9"), (b"cookie", b"sid=1")]
    assert build(sent, b"page=a%2Bb+c", table=table)[1:] == [
        "X-Real-IP: 192.0.2.9",
        "X-Session: id=1",
        "Referer: https://\u00fc.example",
        "X-Page: a+b c",
        "X-Same: sid=1",
    ]


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
def test_control_characters_refuse_the_handshake_wherever_they_come_from(code: int) -> None:
    bad = bytes([code])
    with pytest.raises(BadHeader):
        build(query=b"token=a%%%02Xb" % code)
    with pytest.raises(BadHeader):
        build([(b"user-agent", b"a" + bad + b"b")])
    with pytest.raises(BadHeader):
        build([(b"cookie", b"csrftoken=a" + bad + b"b")])
    with pytest.raises(BadHeader):
        build(request_id=f"a{bad.decode()}")


def test_a_line_cannot_be_smuggled_through_the_query() -> None:
    with pytest.raises(BadHeader, match="control character"):
        build(query=b"token=a%0d%0aX-Forwarded-For:%206.6.6.6")


def test_a_tab_is_allowed_as_in_any_header() -> None:
    assert build([(b"user-agent", b"a\tb")]) == ["User-Agent: a\tb"]


def test_bytes_that_are_not_utf8_refuse_the_handshake_without_being_repeated() -> None:
    with pytest.raises(BadHeader, match="UTF-8") as caught:
        build([(b"user-agent", b"secret\xff")])
    assert "secret" not in str(caught.value)


def test_line_ends_of_other_alphabets_stay_inside_their_value() -> None:
    assert build([(b"user-agent", "a\u2028b\u0085c".encode())]) == ["User-Agent: a\u2028b\u0085c"]
