"""The project's setting ``FAIRLEAD``: a table, whose every key may be left out.

FAIRLEAD = {
    "threads": 500,
    "allowed_origins": ["https://app.example.org"],
    "limits": {"message_size": 65536},
    "gateway": {"url": "http://127.0.0.1:8101", "key": os.environ["FAIRLEAD_KEY"]},
}
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

from django.conf import settings
from django.core.signals import setting_changed

from fairlead.handshake import normal_origin
from fairlead.limits import Limits
from fairlead.publisher import DEFAULT_URL
from fairlead.settings import SECRET, BrokerSettings, Section, each, parse, within
from fairlead.threads import THREADS

_DAY = 86_400


def _expiry(value: float) -> None:
    if value:
        within(5, _DAY)(value)  # the gateway takes less for 5


def domain(written: str) -> str | None:
    """The origin that ``https://*.example.org`` stands for, with all below it; None: there is no star in it."""
    scheme, star, rest = written.partition("://*.")
    return normal_origin(f"{scheme}://{rest}") if star else None


def _origin(value: str) -> None:
    if value != "*" and normal_origin(value) is None and domain(value) is None:
        raise ValueError(f'must be an origin such as "https://app.example.org" or "https://*.example.org": {value!r}')


class GatewaySettings(Section, frozen=True):
    """``gateway``: the one that ``trigger`` publishes through, and that asks the ``bootstrap`` view.

    Attributes:
        url: Its admin listener.
        key: One of its ``api.keys``; without one nothing can be triggered.
        timeout: Seconds that it may be silent, in each of two tries: a visitor may be waiting for them.
        expires_in: Seconds after which it asks ``bootstrap`` about a connection again: until then it does not know that
            somebody has logged out or lost a right. 0: never.
    """

    url: str = DEFAULT_URL
    key: Annotated[str, SECRET] = ""
    timeout: Annotated[float, within(0.1, 60)] = 2.0
    expires_in: Annotated[float, _expiry] = 300.0


class FairleadSettings(Section, frozen=True):
    """All of it.

    Attributes:
        threads: Sockets in blocking views at once, each of which has a thread; past it 503.
        allowed_origins: Origins of web pages that may open sockets, besides the site's own and
            ``CSRF_TRUSTED_ORIGINS``; written as there. ``["*"]`` lets every page act with its visitors' cookies.
        broker: What carries publications between processes.
        gateway: The gateway beside the project, if there is one.
        limits: Those of ``fairlead.limits``.
    """

    threads: Annotated[int, within(1, 1_000_000)] = THREADS
    allowed_origins: Annotated[tuple[str, ...], each(_origin)] = ()
    broker: BrokerSettings = BrokerSettings()
    gateway: GatewaySettings = GatewaySettings()
    limits: Limits = Limits()


def read(value: object) -> FairleadSettings:
    """Check what a project has set.

    Raises:
        SettingsError: A key is unknown or wrong. The text names it.
    """
    return parse(FairleadSettings, b"", {}, {}, place="settings.FAIRLEAD", reader=lambda text: value)


@cache
def current() -> FairleadSettings:
    """The running project's.

    Raises:
        SettingsError: As ``read``.
    """
    return read(getattr(settings, "FAIRLEAD", {}))


def _changed(*, setting: str, **kwargs: object) -> None:
    if setting == "FAIRLEAD":
        current.cache_clear()


setting_changed.connect(_changed)
