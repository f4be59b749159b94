"""From a setting to a broker."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.brokers import Broker
from fairlead.brokers.memory import MemoryBroker
from fairlead.errors import SettingsError

_SCHEMES: dict[str, Callable[[str], Broker]] = {"memory": lambda url: MemoryBroker()}


def from_url(url: str) -> Broker:
    """The broker that a URL such as ``memory://`` names, not yet started.

    Raises:
        SettingsError: The scheme is unknown. The text names the known ones, and not the URL: it may hold a password.
    """
    scheme, mark, _ = url.partition("://")
    if not mark or scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise SettingsError(f"the broker's URL begins with none of the known schemes: {known}")
    return _SCHEMES[scheme](url)
