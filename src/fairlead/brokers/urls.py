"""From a setting to a broker."""

from __future__ import annotations

from urllib.parse import urlsplit

from fairlead.brokers import Broker
from fairlead.brokers.memory import MemoryBroker
from fairlead.errors import SettingsError

_SCHEMES = {"memory": lambda url: MemoryBroker()}
"""What makes a broker of a URL, by scheme."""


def from_url(url: str) -> Broker:
    """The broker that a URL such as ``memory://`` names, not yet started.

    Raises:
        SettingsError: The scheme is unknown.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://" for name in _SCHEMES)
        raise SettingsError(f"no broker has the scheme {scheme!r}; known are {known}")
    return _SCHEMES[scheme](url)
