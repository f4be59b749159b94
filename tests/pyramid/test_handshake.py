"""The handshake by its headers, without a server."""

from __future__ import annotations

import pytest
from pyramid.request import Request

from fairlead.errors import UsageError
from fairlead.pyramid import HandShakeFailed, InvalidOrigin, build_location_url, is_websocket, websocket_handshake

GOOD = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Origin": "http://localhost",
}


def without(name: str, **others: str) -> dict[str, str]:
    return {key: value for key, value in GOOD.items() if key != name} | others


def request(headers: dict[str, str], path: str = "/", **environ: str) -> Request:
    made = Request.blank(path, environ=environ)
    made.headers.update(headers)
    return made


def test_a_good_handshake_is_answered_as_the_rfc_says() -> None:
    response = websocket_handshake(GOOD)
    assert response.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in response  # RFC 6455, 1.3


def test_the_headers_of_a_pyramid_request_will_do() -> None:
    assert websocket_handshake(request(GOOD, CONTENT_LENGTH="", CONTENT_TYPE="").headers)


@pytest.mark.parametrize(
    "headers",
    [
        without("Upgrade"),
        without("Upgrade", Upgrade="h2c"),
        without("Connection"),
        without("Connection", Connection="keep-alive"),
        {"Host": "localhost"},
    ],
    ids=["no Upgrade", "wrong Upgrade", "no Connection", "wrong Connection", "neither"],
)
def test_what_does_not_ask_for_a_websocket_is_told_to(headers: dict[str, str]) -> None:
    with pytest.raises(HandShakeFailed) as failed:
        websocket_handshake(headers)
    assert failed.value.status == 426
    assert dict(failed.value.headers) == {b"upgrade": b"websocket", b"sec-websocket-version": b"13"}


HIXIE_76 = {"Sec-WebSocket-Key1": "3e6b263  4 17 80", "Sec-WebSocket-Key2": "17  9 G`ZD9"}  # May 2010


@pytest.mark.parametrize(
    "headers",
    [
        {name: value for name, value in GOOD.items() if not name.startswith("Sec-")} | HIXIE_76,
        without("Sec-WebSocket-Version"),
        without("Sec-WebSocket-Version", **{"Sec-WebSocket-Version": "8"}),
        without("Sec-WebSocket-Version", **{"Sec-WebSocket-Version": "99"}),
    ],
    ids=["hixie-76", "none", "hybi-10", "99"],
)
def test_other_versions_are_told_which_one_is_spoken(headers: dict[str, str]) -> None:
    with pytest.raises(HandShakeFailed, match="Sec-WebSocket-Version must be 13") as failed:
        websocket_handshake(headers)
    assert failed.value.status == 426
    assert (b"sec-websocket-version", b"13") in failed.value.headers


@pytest.mark.parametrize("key", [{}, {"Sec-WebSocket-Key": "short"}, {"Sec-WebSocket-Key": "ä" * 24}])
def test_a_missing_or_wrong_key_is_the_clients_fault(key: dict[str, str]) -> None:
    with pytest.raises(HandShakeFailed) as failed:
        websocket_handshake(without("Sec-WebSocket-Key", **key))
    assert failed.value.status == 400


def test_a_failure_says_why_and_repeats_nothing_of_the_request() -> None:
    with pytest.raises(HandShakeFailed) as failed:
        websocket_handshake(without("Connection", Cookie="sid=secret", Connection="<script>"))
    assert failed.value.body.startswith(b"Upgrade negotiation failed: ")
    assert b"secret" not in failed.value.body and b"<script>" not in failed.value.body


# -- origin ------------------------------------------------------------------------------------------------------------


def test_only_the_same_origin_may_connect_unless_others_are_named() -> None:
    with pytest.raises(InvalidOrigin) as invalid:
        websocket_handshake(without("Origin", Origin="http://evil.example"))
    assert invalid.value.status == 403
    assert websocket_handshake(without("Origin", Origin="http://partner.example"), ["http://partner.example"])
    assert websocket_handshake(without("Origin", Origin="http://evil.example"), "*")


def test_an_origin_that_is_not_named_is_invalid() -> None:
    with pytest.raises(InvalidOrigin):
        websocket_handshake(without("Host", Host="example.org"), ["http://some.origins.com"])


def test_an_invalid_origin_is_a_failed_handshake() -> None:
    assert issubclass(InvalidOrigin, HandShakeFailed)


def test_programs_send_no_origin_and_may_connect() -> None:
    assert websocket_handshake(without("Origin"))


@pytest.mark.parametrize("origin", ["null", "http://localhost, http://evil.example", "http://localhost.evil.example"])
def test_an_origin_that_is_none_is_invalid(origin: str) -> None:
    with pytest.raises(InvalidOrigin):
        websocket_handshake(without("Origin", Origin=origin))


def test_an_allowed_origin_must_be_one() -> None:
    with pytest.raises(UsageError, match="'partner.example' is not an origin"):
        websocket_handshake(GOOD, ["partner.example"])


# -- the predicate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upgrade", "connection"),
    [
        ("websocket", "Upgrade"),
        ("WebSocket", "upgrade"),
        ("websocket", "keep-alive, Upgrade"),  # Firefox
        ("h2c,websocket", "Upgrade,close"),
    ],
)
def test_the_two_headers_are_lists_in_any_case(upgrade: str, connection: str) -> None:
    assert is_websocket(None, request({"Upgrade": upgrade, "Connection": connection}))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upgrade": "websocket"},
        {"Connection": "Upgrade"},
        {"Upgrade": "websockets", "Connection": "Upgrade"},
        {"Upgrade": "websocket", "Connection": "keep-alive"},
    ],
)
def test_a_request_without_both_is_plain_http(headers: dict[str, str]) -> None:
    assert not is_websocket(None, request(headers))


# -- the URL -----------------------------------------------------------------------------------------------------------


def test_the_url_is_that_of_the_client() -> None:
    plain = request({}, "/jobs/1/?a=1&b=%20", HTTP_HOST="localhost:8080")
    assert build_location_url(plain.headers) == "ws://localhost:8080/jobs/1/?a=1&b=%20"
    safe = request({}, "/a b", HTTP_HOST="example.org", SCRIPT_NAME="/app", **{"wsgi.url_scheme": "https"})
    assert build_location_url(safe.headers) == "wss://example.org/app/a%20b"
