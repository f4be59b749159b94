"""What the gateway accepts as settings, and how it says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from fairlead.errors import SettingsError
from fairlead.gateway.settings import ApiSettings, GatewaySettings, ServerSettings, UpstreamSettings
from fairlead.limits import Limits
from fairlead.settings import BrokerSettings, parse

KEY = "0123456789abcdef"
URL = "http://127.0.0.1:8000/api/bootstrap/"
BASE = {"FAIRLEAD_API__KEYS": KEY, "FAIRLEAD_UPSTREAM__URL": URL}


def read(file: str, environ: Mapping[str, str] = BASE) -> GatewaySettings:
    return parse(GatewaySettings, file.encode(), environ, {}, place="f")


def fault(file: str, environ: Mapping[str, str] = BASE) -> str:
    with pytest.raises(SettingsError) as caught:
        read(file, environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_for_this_machine_only() -> None:
    settings = read("")
    assert settings.server == ServerSettings(host="127.0.0.1", port=8100, path="/ws/", refuse="close")
    assert settings.upstream == UpstreamSettings(url=URL, connect_timeout=1.0, timeout=3.0, in_flight=64, grace=300.0)
    assert settings.api == ApiSettings(host="127.0.0.1", port=8101, keys=(KEY,))
    assert settings.broker.url == "memory://"
    assert settings.log.level == "info"


def test_clients_of_the_gateway_may_send_64_kib_unless_told_otherwise() -> None:
    assert read("").limits.message_size == 65_536
    assert read("[limits]\nsubscriptions = 5").limits == Limits(message_size=65_536, subscriptions=5)
    assert read("[limits]\nmessage_size = 10").limits.message_size == 10


def test_gateway_without_url_does_not_start_and_tells_how_to_give_it() -> None:
    text = "upstream.url: missing; set it in the file, as FAIRLEAD_UPSTREAM__URL or with --upstream"
    assert fault("", {"FAIRLEAD_API__KEYS": KEY}) == text
    assert fault("[upstream]\nurl = ''", {"FAIRLEAD_API__KEYS": KEY}) == f"f: {text}"


def test_gateway_without_key_does_not_start_and_tells_how_to_make_one_and_where_to_put_it() -> None:
    text = fault("", {"FAIRLEAD_UPSTREAM__URL": URL})
    assert re.match(r"api\.keys: no key.*secrets.*, and set it as FAIRLEAD_API__KEYS or in \[api\] keys$", text)


@pytest.mark.parametrize("weak", ["short-secret-12", "a key with blanks in it", "schlüssel-schlüssel", "\u212a" * 20])
def test_weak_key_is_refused_by_its_number_and_never_shown(weak: str) -> None:
    text = fault("", BASE | {"FAIRLEAD_API__KEYS": f"{KEY},{weak}"})
    assert text.startswith("FAIRLEAD_API__KEYS: api.keys: key 2 is not 16 or more characters of visible ASCII; make")
    assert weak not in text


def test_weak_secret_is_refused_and_never_shown() -> None:
    text = fault("[upstream]\nsecret = 'hunter2'")
    assert text.startswith("f: upstream.secret: must be 16 or more characters")
    assert "hunter2" not in text


def test_no_secret_is_in_the_repr() -> None:
    file = "[upstream]\nsecret = 'SECRETSECRETSECRET'\n[upstream.headers]\nX-Key = {value = 'SECRET'}\n"
    settings = read(file + "[broker]\nurl = 'redis://:SECRET@127.0.0.1'", BASE | {"FAIRLEAD_API__KEYS": "SECRET" * 3})
    assert settings.upstream.headers == {"X-Key": {"value": "SECRET"}}
    assert "SECRET" not in repr(settings)


@pytest.mark.parametrize("url", ["http://api/", "https://api.example.org:8443/b?x=1", "http://[::1]:8000", URL])
def test_http_url_is_good(url: str) -> None:
    assert UpstreamSettings(url=url).url == url


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://a..b/", "neither an address nor the name of a host: 'a..b'"),
        ("api/bootstrap", "must be an http:// or https:// URL with a host"),
        ("ftp://api/", "must be an http:// or https:// URL with a host"),
        ("HTTP://api/", "must be an http:// or https:// URL with a host"),
        ("http:///path", "must be an http:// or https:// URL with a host"),
        ("http://api:0/", "must be an http:// or https:// URL with a host"),
        ("http://api/#part", "must have no fragment"),
        ("http://api/#", "must have no fragment"),
        ("http://user@api/", "must have no user name"),
        ("http://api:99999/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://api/a b", "must be visible ASCII"),
        ("http://api/\r\nX: y", "must be visible ASCII"),
        ("http://käse/", "must be visible ASCII"),
    ],
)
def test_bad_url_is_refused(url: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"^url: {re.escape(text)}"):
        UpstreamSettings(url=url)


@pytest.mark.parametrize("url", ["ftp://u:hunter2@api/", "http://u:hunter2@api:x/", "http://u:hunter2@[api/"])
def test_password_in_a_url_is_never_shown(url: str) -> None:
    assert "hunter2" not in fault("", BASE | {"FAIRLEAD_UPSTREAM__URL": url})
    with pytest.raises(SettingsError) as caught:
        BrokerSettings(url="redis:u:hunter2@host")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "a.example.", "k\u00e4se.example"]
)
def test_host_is_an_address_or_a_name(host: str) -> None:
    assert (ServerSettings(host=host).host, ApiSettings(host=host, keys=(KEY,)).host) == (host, host)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "a b", "a\0b", "a\nb", "http://a", "[::1]", "\udcff"])
def test_what_can_be_no_host_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="^host: neither an address nor the name of a host"):
        ServerSettings(host=host)


def test_no_host_is_not_taken_for_every_address() -> None:
    assert fault("[server]\nhost = ''").startswith('f: server.host: must not be empty; "0.0.0.0" is every IPv4 address')
    assert fault("[api]\nhost = ''").startswith("f: api.host: must not be empty")


@pytest.mark.parametrize("key", ["server.uds", "server.certfile", "server.keyfile", "api.uds", "upstream.ca_file"])
def test_a_files_name_holds_no_nul(key: str) -> None:
    section, _, name = key.partition(".")
    assert fault(f'[{section}]\n{name} = "a\\u0000b"') == f"f: {key}: a file's name holds no NUL"


HYBRID = ["capacitor://localhost", "tauri://localhost", "ionic://localhost", "chrome-extension://abcdefghijklmnop"]


@pytest.mark.parametrize("origin", ["https://a.example", "http://127.0.0.1:3000", "https://[::1]:8443", *HYBRID])
def test_origin_is_good(origin: str) -> None:
    assert ServerSettings(allowed_origins=(origin,)).allowed_origins == (origin,)


@pytest.mark.parametrize("origin", ["*", "null", "", "a.example", "https://a.example/", "https://u@a.example", "//a"])
def test_what_is_no_single_origin_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match="^allowed_origins: "):
        ServerSettings(allowed_origins=("https://good.example", origin))


def test_star_is_refused_with_the_reason() -> None:
    assert "every web page" in fault("[server]\nallowed_origins = ['*']")


def test_trusted_proxies_are_addresses_or_networks() -> None:
    proxies = ("10.0.0.0/8", "::1", "127.0.0.1")
    assert ServerSettings(trusted_proxies=proxies).trusted_proxies == proxies
    for wrong in ("*", "proxy.local", "10.0.0.1/8", ""):
        with pytest.raises(SettingsError, match="^trusted_proxies: must be an address or a network"):
            ServerSettings(trusted_proxies=(wrong,))


@pytest.mark.parametrize("path", ["/", "/ws/", "/a/b-c"])
def test_path_is_good(path: str) -> None:
    assert ServerSettings(path=path).path == path


@pytest.mark.parametrize("path", ["", "ws/", "/a?b", "/a#b", "/ä", "/a b", "/healthz", "/healthz/", "/fairlead.js"])
def test_bad_path_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="^path: "):
        ServerSettings(path=path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("[server]\nport = -1", "f: server.port: must be from 0 to 65535, not -1"),
        ("[server]\nport = 65536", "f: server.port: must be from 0 to 65535, not 65536"),
        ("[api]\nport = 65536", "f: api.port: must be from 0 to 65535, not 65536"),
        ("[server]\nrefuse = 'drop'", "f: server.refuse: must be 'close' or 'http'"),
        ("[log]\nlevel = 'loud'", "f: log.level: must be 'debug' or 'info' or 'warning' or 'error'"),
        ("[upstream]\ntimeout = 0", "f: upstream.timeout: must be from 0.01 to 86400.0, not 0.0"),
        ("[upstream]\ngrace = nan", "f: upstream.grace: must be from 0 to 2592000.0, not nan"),
        ("[upstream]\nin_flight = 0", "f: upstream.in_flight: must be from 1 to 10000, not 0"),
        ("[api]\nbody_size = 0", "f: api.body_size: must be from 1 to 1073741824, not 0"),
        ("[broker]\nurl = 'redis'", 'f: broker.url: must be a URL such as "memory://"'),
        ("[broker]\nurl = 'redis://[x'", 'f: broker.url: must be a URL such as "memory://"'),
        ("[limits]\nconnections = 0", "f: limits.connections: must be from 1 to 2147483648, not 0"),
        ("[limits]\ncompression = true", "f: limits.compression: must be 'off' or 'shared' or 'own'"),
        ("[limits]\nhead_timeout = inf", "f: limits.head_timeout: must be from 0.1 to 86400.0, not inf"),
        ("[limits]\nping_after = 60", "limits.ping_timeout: must be longer than limits.ping_after"),
        ("[limits]\noutbox_limit = 1024", "limits.outbox_low: must not be more than limits.outbox_limit"),
        ("[server]\nkeyfile = 'k.pem'", "f: server.keyfile: of no use without certfile"),
        ("[upstream]\nkey_file = 'k.pem'", "f: upstream.key_file: of no use without upstream.cert_file"),
        ("[api]\nport = 8100", "f: api.port: the same as server.port"),
        ("[server]\nuds = '/s'\n[api]\nuds = '/s'", "f: api.uds: the same as server.uds"),
        (
            "[server]\nmax_connections = 3",
            "f: unknown key server.max_connections; the nearest known one is limits.conn",
        ),
        ("[limits]\nmax_message_size = 3", "f: unknown key limits.max_message_size; the nearest known one is limits.m"),
    ],
)
def test_fault_names_the_key(file: str, text: str) -> None:
    assert fault(file).startswith(text)


@pytest.mark.parametrize("compression", ["off", "shared", "own"])
def test_compression(compression: str) -> None:
    assert read(f"[limits]\ncompression = '{compression}'").limits.compression == compression


@pytest.mark.parametrize("file", ["drain_window = 0.0\ndrain_grace = 0", "early_size = 0", "connections = 10"])
def test_limits_that_may_be_none_at_all(file: str) -> None:
    read(f"[limits]\n{file}")


def test_two_listeners_may_share_a_port_if_it_is_any_free_one_or_another_address() -> None:
    read("[server]\nport = 0\n[api]\nport = 0")
    read("[server]\nport = 8101\nhost = '127.0.0.2'")
    read("[server]\nport = 8101\nuds = '/s'")


def test_header_table_is_read_from_the_file_and_from_a_variable() -> None:
    file = """
    [upstream.headers]
    Authorization = { query = "token", format = "Bearer {}" }
    X-Session = { cookie = "sid" }
    X-Env = { value = "prod" }
    User-Agent = false
    """
    expected = {
        "Authorization": {"query": "token", "format": "Bearer {}"},
        "X-Session": {"cookie": "sid"},
        "X-Env": {"value": "prod"},
        "User-Agent": False,
    }
    assert read(file).upstream.headers == expected
    environ = BASE | {"FAIRLEAD_UPSTREAM__HEADERS": '{"X-A": {"header": "x-b"}, "Cookie": false}'}
    assert read(file, environ).upstream.headers == {"X-A": {"header": "x-b"}, "Cookie": False}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("X = true", "X must be a table, or false to leave it out"),
        ("X = 'text'", "expected bool | object, got str"),
        ("X = {}", "X must have exactly one of header, query, cookie and value, and maybe format"),
        ("X = { format = '{}' }", "X must have exactly one of"),
        ("X = { query = 'a', cookie = 'b' }", "X must have exactly one of"),
        ("X = { query = 'a', fromat = '{}' }", "X must have exactly one of"),
        ("X = { query = 3 }", "expected str, got int"),
        ("X = { query = '' }", "the query of X is empty"),
        ("X = { cookie = 'a b' }", "the cookie of X is not a cookie name"),
        ("X = { header = 'a:b' }", "the header of X is not a header name"),
        ("X = { query = 'a', format = 'Token' }", 'the format of X must hold "{}" once'),
        ("X = { query = 'a', format = '{} {}' }", 'the format of X must hold "{}" once'),
        ('X = { value = "a\\r\\nb" }', "X holds control characters"),
        ("'X Y' = { query = 'a' }", "'X Y' is not a header name"),
        ("X = { query = 'a' }\nx = false", "x is there twice"),
    ],
)
def test_malformed_header_entry_is_refused(line: str, text: str) -> None:
    assert fault(f"[upstream.headers]\n{line}").startswith(f"f: upstream.headers: {text}")


@pytest.mark.parametrize(
    "name",
    ["Host", "connection", "Upgrade", "Sec-WebSocket-Key", "sec-websocket-x", "Content-Length", "Transfer-Encoding"]
    + ["Accept-Encoding", "X-Fairlead-Signature", "TE", "Expect", "Proxy-Connection"],
)
@pytest.mark.parametrize("entry", ["false", "{ value = 'x' }"])
def test_headers_of_the_connection_or_the_gateway_cannot_be_set(name: str, entry: str) -> None:
    text = f"f: upstream.headers: {name} belongs to the connection or to the gateway and cannot be set"
    assert fault(f"[upstream.headers]\n{name} = {entry}") == text
