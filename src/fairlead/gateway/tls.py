"""TLS from the files that the settings name; one that cannot be used is refused in one line, with its key and name."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from fairlead.errors import SettingsError
from fairlead.gateway.settings import UpstreamSettings
from fairlead.settings import PublicListenerSettings

_NO_CERTIFICATE = "it holds no certificate in PEM"
_MISFITS = frozenset({"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})  # OpenSSL's words for another key


def server_context(server: PublicListenerSettings) -> ssl.SSLContext | None:
    """What a public listener shows to its clients; None: it speaks plain HTTP.

    Raises:
        SettingsError: A file cannot be used.
    """
    if not server.certfile:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_chain(context, ("server.certfile", server.certfile), ("server.keyfile", server.keyfile))
    return context


def client_context(settings: UpstreamSettings) -> ssl.SSLContext:
    """What the API's certificate is checked against, and what is shown to the API.

    Raises:
        SettingsError: A file cannot be used.
    """
    with _blaming("upstream.ca_file", settings.ca_file, _NO_CERTIFICATE):
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.cert_file:
        _load_chain(context, ("upstream.cert_file", settings.cert_file), ("upstream.key_file", settings.key_file))
    return context


def _load_chain(context: ssl.SSLContext, certificate: tuple[str, str], private: tuple[str, str]) -> None:
    """Load a certificate and its private key, each given as a key of the settings and the file it names."""
    with _blaming(*certificate, _NO_CERTIFICATE):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate[1])
    with _blaming(*(private if private[1] else certificate), "it holds no private key in PEM"):
        context.load_cert_chain(certificate[1], private[1] or None, password=_no_password)


@contextmanager
def _blaming(key: str, file: str, fault: str) -> Iterator[None]:
    try:
        yield
    except _Encrypted:
        fault = "its private key has a pass phrase, which nobody will be there to type"
    except ssl.SSLError as exc:
        fault = "its private key is not the certificate's" if exc.reason in _MISFITS else fault
    except OSError as exc:
        fault = exc.strerror or str(exc)
    else:
        return
    raise SettingsError(f"{key}: cannot use {file}: {fault}")


class _Encrypted(Exception):
    """A private key has a pass phrase."""


def _no_password() -> str:
    # Without this OpenSSL would ask for it on the terminal.
    raise _Encrypted
