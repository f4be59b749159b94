"""What keeps the gateway from starting although its settings are well-formed, in words."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from fairlead.brokers.urls import from_url
from fairlead.errors import SettingsError
from fairlead.gateway import tls
from fairlead.gateway.settings import GatewaySettings
from fairlead.settings import ListenerSettings

_UDS_SIZE = 107
"""Bytes of a Unix socket's path that Linux takes."""


def check_startable(settings: GatewaySettings) -> None:
    """See whether the gateway would start: whether there is such a broker, and whether the hosts are there and the
    files that the settings name can be used. Ports are left alone: a gateway may be running.

    Raises:
        SettingsError: It would not; the text names the key.
    """
    try:
        from_url(settings.broker.url)
    except SettingsError as exc:
        raise SettingsError(f"broker.url: {exc}") from None
    _check_address("server", settings.server)
    _check_address("api", settings.api)
    tls.server_context(settings.server)
    tls.client_context(settings.upstream)


def _check_address(section: str, listener: ListenerSettings) -> None:
    if listener.uds:
        directory = Path(listener.uds).absolute().parent
        if len(os.fsencode(listener.uds)) > _UDS_SIZE:
            raise SettingsError(f"{section}.uds: a socket's path has at most {_UDS_SIZE} bytes")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise SettingsError(f"{section}.uds: cannot make a socket in {directory}")
        return
    try:
        socket.getaddrinfo(listener.host, None)
    except OSError as exc:
        raise SettingsError(f"{section}.host: cannot listen on {listener.host}: {exc.strerror}") from None
