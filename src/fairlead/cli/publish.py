"""``fairlead publish``: a trigger from the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated

import msgspec
import typer
from typer import Option

from fairlead.errors import SettingsError, UsageError
from fairlead.publisher import DEFAULT_URL, TIMEOUT, Publisher, Room
from fairlead.settings import split_list, variable


def publish(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="A name, or a JSON object.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="JSON, or with --text any text.")],
    text: Annotated[bool, Option("--text", help="DATA is a string as it stands.")] = False,
    url: Annotated[str, Option(metavar="URL", help="The gateway's admin listener.")] = DEFAULT_URL,
    api_key: Annotated[
        str | None,
        Option(
            metavar="KEY",
            help="The gateway's key. The process list shows it to every user of this machine; better set "
            "FAIRLEAD_API__KEYS, whose first key is taken.",
        ),
    ] = None,
    timeout: Annotated[
        float, Option(metavar="SECONDS", help="How long the gateway may be silent; it is tried three times.")
    ] = TIMEOUT,
) -> None:
    """Publish DATA to ROOM.

    Prints to how many subscriptions of that gateway it was delivered.
    """
    publisher = Publisher(url, key=api_key or _key(os.environ), timeout=timeout)
    published = publisher.publish(_room(room), data if text else _json(data))
    typer.echo(f"delivered: {published.delivered}")


def _key(environ: Mapping[str, str]) -> str:
    name = variable("api.keys")
    try:
        keys = split_list(environ.get(name, ""))
    except ValueError as exc:
        raise SettingsError(f"{name} is neither a comma separated nor a JSON list of keys") from exc
    if not keys:
        raise SettingsError(f"no key: set {name}, or give --api-key")
    return str(keys[0])


def _room(text: str) -> Room:
    if not text.startswith("{"):
        return text
    try:
        room: Room = msgspec.json.decode(text, type=dict[str, str | int | bool | None])
    except msgspec.ValidationError:
        raise UsageError(
            "ROOM is none: a room is a string, or a flat object of strings, integers, booleans and null"
        ) from None
    except ValueError as exc:
        raise UsageError(f"ROOM begins like a JSON object and is none: {exc}") from exc
    return room


def _json(text: str) -> msgspec.Raw:
    try:
        return msgspec.json.decode(text, type=msgspec.Raw)
    except ValueError as exc:
        raise UsageError(f"DATA is not JSON, and --text is not given: {exc}") from exc
