"""``fairlead.django`` in ``INSTALLED_APPS``: its checks, and ``manage.py runserver`` with sockets."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import register

from fairlead.django.checks import check_order, check_settings


class FairleadConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """The app; it has no models."""

    name = "fairlead.django"
    label = "fairlead"
    verbose_name = "Fairlead"

    def ready(self) -> None:
        register(check_settings)
        register(check_order)
