"""What ``manage.py check`` says about this app."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from fairlead.brokers.urls import from_url
from fairlead.django.settings import read
from fairlead.errors import SettingsError


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """The setting ``FAIRLEAD`` can be used, and where it names a gateway it has a key to trigger with."""
    written = getattr(settings, "FAIRLEAD", {})
    try:
        found = read(written)
        from_url(found.broker.url)
    except SettingsError as exc:
        return [Error(str(exc), id="fairlead.E001")]
    named = not {"url", "key"}.isdisjoint(written.get("gateway", ()))
    if not named or found.gateway.key:
        return []
    return [
        Warning(
            "settings.FAIRLEAD: gateway.key is empty, so nothing can be triggered",
            hint="Set it to one of the gateway's api.keys; if it comes from a variable, export that here, too.",
            id="fairlead.W002",
        )
    ]


def check_order(**kwargs: Any) -> list[CheckMessage]:
    """``manage.py runserver`` is the one that serves sockets: of apps that have the same command the first counts."""
    names = [config.name for config in apps.get_app_configs()]
    before = names[: names.index("fairlead.django")]
    others = [name for name in ("django.contrib.staticfiles", "daphne") if name in before]
    return [
        Warning(
            f"runserver is that of {name}, which serves no sockets of Fairlead's",
            hint=f'Put "fairlead.django" before "{name}" in INSTALLED_APPS.',
            id="fairlead.W001",
        )
        for name in others
    ]
