"""The setting FAIRLEAD, and what ``manage.py check`` says of it."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test.utils import override_settings

from fairlead.django import get_asgi_application
from fairlead.django.checks import check_order, check_settings
from fairlead.django.origins import Origins
from fairlead.django.settings import current, read
from fairlead.errors import SettingsError
from fairlead.handshake import Request


def test_every_key_has_its_default() -> None:
    settings = read({})
    assert (settings.threads, settings.allowed_origins, settings.broker.url) == (1000, (), "memory://")
    assert (settings.gateway.url, settings.gateway.timeout) == ("http://127.0.0.1:8101", 2.0)


def test_tuples_and_lists_will_do_and_the_key_is_never_shown() -> None:
    settings = read({"allowed_origins": ("https://a.test",), "gateway": {"key": "hidden"}, "limits": {"ping_after": 5}})
    assert (settings.allowed_origins, settings.limits.ping_after) == (("https://a.test",), 5)
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"thread": 5}, "settings.FAIRLEAD: unknown key thread; the nearest known one is threads"),
        (
            {"gateway": {"urls": "x"}},
            "settings.FAIRLEAD: unknown key gateway.urls; the nearest known one is gateway.url",
        ),
        ({"threads": 0}, "settings.FAIRLEAD: threads: must be from 1 to 1000000, not 0"),
        ({"threads": "5"}, "settings.FAIRLEAD: threads: expected int, got str"),
        ({"allowed_origins": "https://a.test"}, "settings.FAIRLEAD: allowed_origins: expected array, got str"),
        ({"allowed_origins": ["a.test"]}, "settings.FAIRLEAD: allowed_origins: must be an origin such as"),
        ({"limits": {"ping_after": 60}}, "settings.FAIRLEAD: limits.ping_timeout: must be longer"),
        ({"gateway": {"expires_in": 1}}, "settings.FAIRLEAD: gateway.expires_in: must be from 5 to 86400, not 1"),
        ([], "settings.FAIRLEAD: must be a table of keys"),
        ({"broker": {"url": "nothing"}}, 'settings.FAIRLEAD: broker.url: must be a URL such as "memory://"'),
    ],
)
def test_what_cannot_be_is_named_by_the_check_and_at_the_start(value: object, text: str) -> None:
    with override_settings(FAIRLEAD=value):
        with pytest.raises(SettingsError) as caught:
            get_asgi_application()
        assert text in str(caught.value) or text.replace("settings.FAIRLEAD: ", "") in str(caught.value)
        with pytest.raises(SystemCheckError, match="fairlead.E001"):
            call_command("check")


def test_a_broker_that_does_not_exist_is_named_by_the_check() -> None:
    with override_settings(FAIRLEAD={"broker": {"url": "pigeon://"}}):
        with pytest.raises(SystemCheckError, match="memory://"):
            call_command("check")


@pytest.mark.parametrize(
    ("gateway", "warned"),
    [
        ({"url": "http://127.0.0.1:8101"}, ["fairlead.W002"]),
        ({"key": ""}, ["fairlead.W002"]),
        ({"url": "http://127.0.0.1:8101", "key": "a-key"}, []),
        ({"expires_in": 60}, []),  # it only asks
    ],
)
def test_a_gateway_without_a_key_is_named_by_the_check(gateway: dict[str, object], warned: list[str]) -> None:
    with override_settings(FAIRLEAD={"gateway": gateway}):
        assert [warning.id for warning in check_settings()] == warned
    with override_settings(FAIRLEAD={}):
        assert check_settings() == []


def test_settings_are_read_again_when_a_test_overrides_them() -> None:
    with override_settings(FAIRLEAD={"threads": 7}):
        assert current().threads == 7
    assert current().threads == 1000


def test_the_check_sees_whose_runserver_it_is() -> None:
    assert check_order() == []
    with override_settings(INSTALLED_APPS=["django.contrib.staticfiles", "fairlead.django"]):
        (warning,) = check_order()
    assert warning.id == "fairlead.W001" and "django.contrib.staticfiles" in warning.hint


@pytest.mark.parametrize("headers", [[], [(b"origin", b"https://a.test"), (b"origin", b"https://b.a.test")]])
def test_a_star_allows_exactly_one_origin_of_a_browser(headers: list[tuple[bytes, bytes]]) -> None:
    origins = Origins(["https://*.a.test", "nonsense", "https://*."])
    request = Request({"type": "websocket", "path": "/", "headers": [(b"host", b"x.test"), *headers]})
    assert (origins.fault(request, "x.test") is None) is (not headers)
