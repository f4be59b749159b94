"""What keeps the gateway from starting although its settings are well-formed, in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fairlead.brokers.urls import from_url
from fairlead.errors import SettingsError, UsageError
from fairlead.gateway.settings import GatewaySettings

# The event loop's own text: its OSError carries the address in no other way.
_BIND = re.compile(r"bind on address \('([^']*)', (\d+)[^)]*\): (?:\[errno -?\d+\] )?(.+)", re.IGNORECASE)


def check_startable(settings: GatewaySettings) -> None:
    """See whether there is such a broker, and whether the files that the settings name can be read.

    Raises:
        SettingsError: There is not, or one cannot; the text names the key.
    """
    try:
        from_url(settings.broker.url)
    except SettingsError as exc:
        raise SettingsError(f"broker.url: {exc}") from None
    server, upstream = settings.server, settings.upstream
    named = {
        "server.certfile": server.certfile,
        "server.keyfile": server.keyfile,
        "upstream.ca_file": upstream.ca_file,
        "upstream.cert_file": upstream.cert_file,
        "upstream.key_file": upstream.key_file,
    }
    for key, name in named.items():
        try:
            if name:
                Path(name).open("rb").close()
        except OSError as exc:
            raise SettingsError(f"{key}: cannot read {name}: {exc.strerror}") from exc


def listening(run: Callable[[GatewaySettings], int], settings: GatewaySettings) -> int:
    """Run a server until it ends and return its exit status.

    Raises:
        UsageError: An address cannot be listened on; the text says which and why.
    """
    try:
        return run(settings)
    except OSError as exc:
        raise UsageError(cannot_listen(exc)) from exc


def cannot_listen(exc: OSError, address: str = "") -> str:
    """One line about an address that could not be bound; ``address`` is for errors that do not tell it."""
    found = _BIND.search(str(exc))
    if found is None:
        cause = exc.strerror.lower() if exc.strerror else str(exc)
        return f"cannot listen{' on ' if address else ''}{address}: {cause}"
    host = f"[{found[1]}]" if ":" in found[1] else found[1]
    return f"cannot listen on {host}:{found[2]}: {found[3].lower()}"
