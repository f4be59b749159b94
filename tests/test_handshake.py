from __future__ import annotations

from ipaddress import ip_network

import pytest

from fairlead.handshake import Reject, Request, client_address, from_trusted_proxy, normal_origin, origin_fault

PROXIES = [ip_network("10.0.0.0/8"), ip_network("::1/128")]


def request(*headers: tuple[str, str], query: str = "") -> Request:
    return Request(
        {
            "type": "websocket",
            "path": "/ws/",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            "client": ("127.0.0.9", 4000),
        }
    )


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("http://example.com", "example.com:80"),
        ("https://example.com", "example.com"),
        ("https://example.com", "example.com:443"),
        ("https://example.com:8443", "example.com:8443"),
        ("HTTP://Example.COM", "example.com"),
        ("http://[::1]:8100", "[::1]:8100"),
    ],
)
def test_the_same_origin_may_connect(origin: str, host: str) -> None:
    assert origin_fault(request(("host", host), ("origin", origin))) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://example.com.evil.test",
        "http://evil-example.com",
        "http://example.com:81",
        "https://example.com:80",
        "http://user@example.com",
        "http://example.com/",
        "http://example.com\t",
        "example.com",
        "//example.com",
        "http://example.com http://evil.test",
        "file://example.com",
        "http://example.com.",
        "http://exämple.com",
        "http://[::1",
    ],
)
def test_any_other_origin_is_refused(origin: str) -> None:
    fault = origin_fault(request(("host", "example.com"), ("origin", origin)))
    assert fault is not None
    assert "Origin" in fault


def test_a_refusal_names_the_setting_to_change() -> None:
    fault = origin_fault(request(("host", "example.com"), ("origin", "https://app.example.com")))
    assert fault is not None
    assert "allowed_origins" in fault


def test_two_origins_are_refused_even_if_each_is_allowed() -> None:
    asked = request(("host", "a.test"), ("origin", "http://a.test"), ("origin", "http://a.test"))
    assert origin_fault(asked) is not None


def test_listed_origins_may_connect_whatever_the_host() -> None:
    allowed = {"https://app.example.com:443"}
    assert origin_fault(request(("host", "x"), ("origin", "https://app.example.com")), allowed=allowed) is None
    assert origin_fault(request(("host", "x"), ("origin", "http://app.example.com")), allowed=allowed) is not None


@pytest.mark.parametrize("origin", ["capacitor://localhost", "tauri://localhost", "chrome-extension://abcdef"])
def test_apps_whose_scheme_has_no_port_may_connect_if_they_are_listed(origin: str) -> None:
    host = origin.partition("://")[2]
    asked = request(("host", host), ("origin", origin))
    assert origin_fault(asked, allowed={normal_origin(origin)}) is None
    assert origin_fault(asked, allowed={normal_origin("ionic://localhost")}) is not None


def test_no_origin_passes_unless_it_is_required() -> None:
    assert origin_fault(request(("host", "x"))) is None
    assert origin_fault(request(("host", "x")), require=True) is not None


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://A.test", "https://a.test:443"),
        ("http://a.test:8000", "http://a.test:8000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("Chrome-Extension://abcdef", "chrome-extension://abcdef"),
        ("capacitor://localhost:1", "capacitor://localhost:1"),
        ("*", None),
        ("http://a.test/x", None),
    ],
)
def test_origins_have_one_normal_form(text: str, normal: str | None) -> None:
    assert normal_origin(text) == normal


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", [b"203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [b"6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [b"6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", [b"6.6.6.6", b"203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [b"203.0.113.9, garbage"], "10.0.0.1"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        ("10.0.0.1", [b"203.0.113.9\x0b"], "10.0.0.1"),
        ("::ffff:10.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("::1", [b"2001:db8::1"], "2001:db8::1"),
        ("", [b"203.0.113.9"], "203.0.113.9"),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(
    peer: str, header: list[bytes], expected: str
) -> None:
    assert client_address(peer, header, PROXIES) == expected


def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert client_address("10.0.0.1", [b"203.0.113.9"], []) == "10.0.0.1"
    assert client_address("", [b"203.0.113.9"], []) == ""
    assert not from_trusted_proxy("10.0.0.1", [])
    assert from_trusted_proxy("10.0.0.1", PROXIES)
    assert not from_trusted_proxy("192.0.2.1", PROXIES)


def test_cookies_and_query_take_the_first_of_a_name() -> None:
    asked = request(("cookie", 'a=1; b="two"; a=3; junk'), ("cookie", "c=x=y"), query="t=%41b&t=2&empty=")
    assert asked.cookies == {"a": "1", "b": "two", "c": "x=y"}
    assert asked.query == {"t": "Ab", "empty": ""}
    assert asked.header(b"cookie") == 'a=1; b="two"; a=3; junk'
    assert asked.header(b"origin") is None
    assert asked.address == "127.0.0.9"


def test_reject_carries_status_and_body() -> None:
    refusal = Reject(401, "log in first\n", headers=[(b"x-a", b"b")])
    assert (refusal.status, refusal.body, refusal.headers) == (401, b"log in first\n", [(b"x-a", b"b")])
    assert Reject(403).body == b""
