"""Publish from any process, over HTTP: from a web view, a worker, a script.

    from fairlead.publisher import Publisher

    publisher = Publisher("http://127.0.0.1:8101", key=KEY)
    publisher.publish({"order": 7}, {"state": "paid"})

``Publisher`` blocks and needs the standard library alone; ``AsyncPublisher`` does the same in an event loop. Both try
again when the gateway cannot be reached or is about to stop. All tries of one call carry the same ``Idempotency-Key``,
so that a publication that was answered is not made again, however many of them arrive. Only if the broker failed in the
middle of a call do its first rooms get the publication of the next try as well.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import msgspec

from fairlead.errors import GatewayUnavailable, SettingsError, TriggerRefused, UsageError

if TYPE_CHECKING:
    import aiohttp

Room = str | Mapping[str, str | int | bool | None]

DEFAULT_URL: Final = "http://127.0.0.1:8101"
TIMEOUT: Final = 5.0
"""Seconds. A gateway on the same machine answers within a millisecond; this is for one far and busy."""

TRIES: Final = 3
_FIRST_DELAY: Final = 0.1  # seconds before the second try; doubles. A restarting gateway is back within a second or so
_TRY_AGAIN: Final = frozenset({408, 429})  # of those that refuse this very request, 4xx
_ANSWER_SIZE: Final = 64 * 1024
_TEXT_LENGTH: Final = 500


class Published(msgspec.Struct, frozen=True):
    """What the gateway did.

    Attributes:
        published: Rooms published to.
        delivered: Subscriptions that the publication was handed to on the gateway that took the call; those on other
            gateways are not counted.
    """

    published: int
    delivered: int


class _Problem(msgspec.Struct):
    error: str


class Publisher:
    """Publish, and wait for the answer. Each call makes its own connection, so threads and forks may share one.

    Args:
        url: The gateway's admin listener, http or https.
        key: One of its ``api.keys``.
        timeout: Seconds that the gateway may be silent: for the connection, and then before each part of its answer.
        tries: How often a call is tried; 1 or less is once.

    Raises:
        SettingsError: The URL or the key cannot be one.
    """

    def __init__(self, url: str = DEFAULT_URL, *, key: str, timeout: float = TIMEOUT, tries: int = TRIES) -> None:
        self._target = _Target(url, key)
        self._timeout = timeout
        self._tries = tries

    def publish(self, rooms: Room | Sequence[Room], data: object) -> Published:
        """Publish to one room, or to each of several.

        Args:
            rooms: A room or a sequence of rooms, each a string or a flat mapping.
            data: Anything that JSON can hold; a ``msgspec.Raw`` is taken as JSON text as it stands.

        Raises:
            UsageError: ``data`` cannot be written as JSON.
            TriggerRefused: The gateway refuses this trigger; its text says why. Trying again would not help.
            SettingsError: The gateway refuses the key.
            GatewayUnavailable: No try succeeded. The last may have been published all the same.
        """
        body, headers = _encode(rooms, data), self._target.headers()
        delays = _delays(self._tries)
        while True:
            try:
                return self._target.judge(*self._post(body, headers))
            except GatewayUnavailable:
                if not delays:
                    raise
                time.sleep(delays.pop(0))

    def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        target = self._target
        connect = HTTPSConnection if target.is_tls else HTTPConnection
        connection = connect(target.host, target.port, timeout=self._timeout)
        try:
            connection.request("POST", target.path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read(_ANSWER_SIZE)
        except (OSError, HTTPException) as exc:
            raise target.unreachable(exc) from exc
        finally:
            connection.close()


class AsyncPublisher:
    """Publish from an event loop, over kept connections. Use it with ``async with``, or call ``close()`` at the end.

    Arguments and errors are those of ``Publisher``, but ``timeout`` holds for one try from beginning to end.
    """

    def __init__(self, url: str = DEFAULT_URL, *, key: str, timeout: float = TIMEOUT, tries: int = TRIES) -> None:
        self._target = _Target(url, key)
        self._timeout = timeout
        self._tries = tries
        self._session: aiohttp.ClientSession | None = None

    async def publish(self, rooms: Room | Sequence[Room], data: object) -> Published:
        """As ``Publisher.publish()``."""
        import asyncio

        body, headers = _encode(rooms, data), self._target.headers()
        delays = _delays(self._tries)
        while True:
            try:
                return self._target.judge(*await self._post(body, headers))
            except GatewayUnavailable:
                if not delays:
                    raise
                await asyncio.sleep(delays.pop(0))

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        try:
            post = self._session.post(self._target.url, data=body, headers=headers, allow_redirects=False)
            async with post as response:
                return response.status, await _read(response.content)
        except aiohttp.ClientConnectorError as exc:
            raise self._target.unreachable(exc.os_error) from exc
        except (OSError, aiohttp.ClientError) as exc:
            raise self._target.unreachable(exc) from exc

    async def close(self) -> None:
        """Close the kept connections. Publishing again opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def publish(
    rooms: Room | Sequence[Room], data: object, *, url: str = DEFAULT_URL, key: str, timeout: float = TIMEOUT
) -> Published:
    """Publish once: ``Publisher(url, key=key, timeout=timeout).publish(rooms, data)``."""
    return Publisher(url, key=key, timeout=timeout).publish(rooms, data)


class _Target:
    """Where to, with which key, and what an answer from there means."""

    def __init__(self, url: str, key: str) -> None:
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname or "", parts.port
        except ValueError:
            raise SettingsError("the gateway's address is not a URL") from None
        if parts.scheme not in ("http", "https") or not self.host or "@" in parts.netloc:
            raise SettingsError("the gateway's address must be an http or https URL with a host and without a user")
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise SettingsError("the API key must be visible ASCII and not empty")
        self.is_tls = parts.scheme == "https"
        self.path = parts.path.rstrip("/") + "/trigger/"
        self.url = f"{parts.scheme}://{parts.netloc}{self.path}"
        self._key = key

    def headers(self) -> dict[str, str]:
        """The headers of one call, for all its tries."""
        return {
            "Accept-Encoding": "identity",  # an answer is never inflated, so that its bound holds
            "Authorization": f"Bearer {self._key}",
            "Content-Type": "application/json",
            "Idempotency-Key": secrets.token_hex(16),
        }

    def judge(self, status: int, body: bytes) -> Published:
        if status == 200:
            try:
                return msgspec.json.decode(body, type=Published)
            except msgspec.MsgspecError as exc:
                raise GatewayUnavailable(f"what answers at {self.url} is no gateway") from exc
        if status in (401, 403):
            raise SettingsError(f"the gateway at {self.url} refuses the API key")
        text = _text(body)
        if status == 404:
            text = f"{text or 'not found'}; is {self.url} on the gateway's admin port?"
        if 400 <= status < 500 and status not in _TRY_AGAIN:
            raise TriggerRefused(status, text)
        raise GatewayUnavailable(f"the gateway at {self.url} answers {status} {text}".rstrip())

    def unreachable(self, cause: Exception) -> GatewayUnavailable:
        return GatewayUnavailable(f"cannot reach the gateway at {self.url}: {str(cause) or type(cause).__name__}")


async def _read(content: aiohttp.StreamReader) -> bytes:
    """The answer, or as much of it as is wanted at most."""
    import asyncio

    try:
        return await content.readexactly(_ANSWER_SIZE)
    except asyncio.IncompleteReadError as exc:
        return exc.partial


def _encode(rooms: Room | Sequence[Room], data: object) -> bytes:
    several = [rooms] if isinstance(rooms, str | Mapping) else list(rooms)
    try:
        return msgspec.json.encode({"rooms": several, "data": data})
    except (TypeError, ValueError, RecursionError) as exc:
        raise UsageError(f"cannot be written as JSON: {exc}") from exc


def _text(body: bytes) -> str:
    """What a refusal says: the gateway's own words, or those of something between here and there."""
    try:
        text = msgspec.json.decode(body, type=_Problem).error
    except msgspec.MsgspecError:
        text = body.decode("utf-8", "replace").strip()
    return text[:_TEXT_LENGTH]


def _delays(tries: int) -> list[float]:
    """How long to wait between the tries, in seconds; up to a half less at random, so that callers spread."""
    return [_FIRST_DELAY * 2**number * random.uniform(0.5, 1.0) for number in range(tries - 1)]
