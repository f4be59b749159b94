"""A project's settings: what each key takes, and what is refused with the key's name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from fairlead.app.settings import KEY_LENGTH, ProjectSettings, ServerSettings, SessionSettings
from fairlead.errors import SettingsError
from fairlead.limits import Limits
from fairlead.settings import parse, read_yaml

KEY = "k" * KEY_LENGTH
PAGE = Path(__file__).parents[1] / "docs" / "projects.md"


def read(file: str = "", environ: Mapping[str, str] | None = None) -> ProjectSettings:
    return parse(ProjectSettings, file.encode(), environ or {}, {}, place="server.yml", reader=read_yaml)


def fault(file: str = "", environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read(file, environ)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_file_it_listens_on_this_machine_only() -> None:
    settings = read()
    assert settings == ProjectSettings()
    assert (settings.server.host, settings.server.port, settings.production) == ("127.0.0.1", 8000, False)
    assert settings.limits == Limits()


def test_every_section_can_be_in_the_file() -> None:
    settings = read(
        f"""
        apps: [hello, chat]
        production: true
        server: {{host: "::", port: 80, allowed_origins: [https://app.example.org], trusted_proxies: [10.0.0.0/8]}}
        session: {{key: {KEY}, cookie: sid, max_age: 3600}}
        broker: {{url: "memory://"}}
        limits: {{message_size: 4096, connections: 10}}
        log: {{level: debug}}
        """
    )
    assert (settings.apps, settings.production) == (("hello", "chat"), True)
    assert settings.server == ServerSettings(
        host="::", port=80, allowed_origins=("https://app.example.org",), trusted_proxies=("10.0.0.0/8",)
    )
    assert settings.session == SessionSettings(key=KEY, cookie="sid", max_age=3600)
    assert settings.limits == Limits(message_size=4096, connections=10)
    assert settings.log.level == "debug"


def test_environment_wins_over_the_file() -> None:
    environ = {"FAIRLEAD_PRODUCTION": "true", "FAIRLEAD_APPS": "a,b", "FAIRLEAD_SESSION__KEY": KEY}
    settings = read("apps: [c]", environ)
    assert (settings.production, settings.apps, settings.session.key) == (True, ("a", "b"), KEY)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("prodution: true", "server.yml: unknown key prodution; the nearest known one is production"),
        ("server: {prot: 1}", "server.yml: unknown key server.prot; the nearest known one is server.port"),
        ("http_port: 3000", "server.yml: unknown key http_port; the nearest known one is "),
        ("production: maybe", "server.yml: production: expected bool, got str"),
        ("apps: hello", "server.yml: apps: expected array, got str"),
        ("apps: [a/b]", "server.yml: apps: an app is a folder in apps/ that Python can import, which 'a/b' cannot be"),
        ("apps: [..]", "server.yml: apps: an app is a folder in apps/ that Python can import, which '..' cannot be"),
        ("apps: [häfen]", "server.yml: apps: an app is a folder in apps/"),
        ("apps: [a, b, a]", "server.yml: apps: a is there twice"),
        ("apps: [common]", "server.yml: apps: common is the folder that all apps share, and no app"),
        ("server: {port: 65536}", "server.yml: server.port: must be from 0 to 65535, not 65536"),
        ("server: {keyfile: k.pem}", "server.yml: server.keyfile: of no use without certfile"),
        ('server: {allowed_origins: ["*"]}', 'server.yml: server.allowed_origins: "*" would let every web page act'),
        ("server: {allowed_origins: [a.example]}", "server.yml: server.allowed_origins: must be an origin, scheme://"),
        ("server: {trusted_proxies: [nginx]}", "server.yml: server.trusted_proxies: must be an address or a network"),
        ("session: {key: changeme}", f"server.yml: session.key: must be {KEY_LENGTH} or more characters of visible"),
        ("session: {cookie: a b}", "server.yml: session.cookie: not a cookie's name: 'a b'"),
        ("session: {max_age: 0}", "server.yml: session.max_age: must be from 60 to 34560000, not 0"),
        ("limits: {ping_after: 60}", "server.yml: limits.ping_timeout: must be longer than limits.ping_after"),
        ("log: {level: loud}", "server.yml: log.level: must be 'debug' or 'info' or 'warning' or 'error'"),
    ],
)
def test_fault_names_the_key(file: str, text: str) -> None:
    found = fault(file)
    # A rule over two keys does not know which of them the file had.
    assert found.startswith((text, text.removeprefix("server.yml: ")))


def test_fault_in_the_environment_names_the_variable() -> None:
    environ = {"FAIRLEAD_SERVER__PROT": "1"}
    assert fault("", environ) == (
        "unknown environment variable FAIRLEAD_SERVER__PROT; the nearest known one is FAIRLEAD_SERVER__PORT"
    )


def test_session_key_is_in_no_text() -> None:
    assert KEY not in repr(read(f"session: {{key: {KEY}}}"))
    assert "hunter2" not in fault("session: {key: hunter2}")
    assert "hunter2" not in fault("session: {key: [hunter2]}")


@pytest.mark.parametrize("section", ["", "server", "session", "broker", "log"])
def test_the_settings_reference_is_complete_and_right(section: str) -> None:
    text = PAGE.read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    text = text.partition(f"### `{section}`")[2] if section else text
    found = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", text.partition("\n###")[0], re.MULTILINE))
    defaults = json.loads(msgspec.json.encode(getattr(ProjectSettings(), section) if section else ProjectSettings()))
    keys = [key for key, default in defaults.items() if not isinstance(default, dict)]
    assert {key: json.loads(text) for key, text in found.items()} == {key: defaults[key] for key in keys}
