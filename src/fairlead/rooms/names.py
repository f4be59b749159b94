"""Room names and grants: what a room may be called, when two names mean one room, and who may join which.

A room is a string, or a flat object whose values are strings, 64-bit integers, booleans or null. Its key is the string
itself, or the object's JSON text with sorted names and no spaces. A string that is the JSON text of an object names
that object's room, so a key never means two things. Types are strict: ``1``, ``true`` and ``"1"`` make three rooms.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NewType

import msgspec

from fairlead.errors import InvalidRoom
from fairlead.limits import Limits

RoomKey = NewType("RoomKey", str)
"""A room's canonical name. Opaque outside this module; equal for two names exactly if they mean one room."""

_SIZE = Limits().room_size
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # Unicode's control characters, and lone surrogates


def _plain(scalar: str | int) -> str | int:
    """What the encoder is to make of a subclass of str or int, such as Django's SafeString."""
    return str.__str__(scalar) if isinstance(scalar, str) else int(scalar)


_encode = msgspec.json.Encoder(order="sorted", enc_hook=_plain).encode  # UTF-8 sorts as code points do
_decode = msgspec.json.Decoder().decode


def room_key(value: object, *, size: int = _SIZE) -> RoomKey:
    """The key of the room that ``value`` names.

    Args:
        value: Decoded JSON: a string, or an object as a mapping. Where a name stood twice in the object, the last one
            counts, as JSON decoders have it.
        size: The most bytes a key may have in UTF-8 (``Limits.room_size``).

    Raises:
        InvalidRoom: Not a room, or its key is too long. Tell the sender.
    """
    if isinstance(value, str):
        named = _object(value)
        key = _string(value) if named is None else _flat(named)
    elif isinstance(value, Mapping):
        key = _flat(value)
    else:
        raise InvalidRoom("a room is a string or a flat object")
    if len(key) > size or len(key.encode()) > size:
        raise InvalidRoom(f"a room's name has at most {size} bytes")
    return RoomKey(key)


def room_json(key: RoomKey) -> bytes:
    """The room as JSON text, the way it stands on the wire: the object, or the string in quotes."""
    return _encode(key) if _object(key) is None else key.encode()


class Grants:
    """The rooms one connection may join; nothing else is allowed. Immutable.

    A gateway holds one for every connection, so the granted keys are kept in one string: a control character, which no
    key can hold, stands before and after each. Ten grants of 30 characters take under 600 bytes; as a set of strings
    they would take 1,600.

    Args:
        allowed_rooms: Rooms as ``room_key`` takes them. In an object the value ``"*"`` stands for any value there; the
            names must be the same. Elsewhere a ``*`` is an ordinary character.
        allowed_prefixes: Beginnings of string rooms; ``""`` allows every string room. Objects are never matched.
        size: The most bytes of a room or prefix (``Limits.room_size``).

    Raises:
        InvalidRoom: One of them is not a room or not a prefix.
    """

    __slots__ = ("_granted", "_prefixes", "_stars")

    _granted: str | frozenset[str]  # either way a key is looked up with its marks, see _marked
    _stars: tuple[tuple[str, ...], ...]  # the names that have a star, for each way in which the patterns have them
    _prefixes: tuple[str, ...]

    def __init__(
        self, allowed_rooms: Sequence[object] = (), allowed_prefixes: Sequence[str] = (), *, size: int = _SIZE
    ) -> None:
        keys = {room_key(room, size=size) for room in allowed_rooms}
        self._granted = _lookup(keys)
        self._stars = tuple({stars for key in keys if (stars := _starred(key))})
        self._prefixes = tuple({_prefix(prefix, size) for prefix in allowed_prefixes})

    def allows(self, room: RoomKey) -> bool:
        """Whether the connection may join ``room``."""
        if _marked(room) in self._granted:
            return True
        wanted = _object(room)
        if wanted is None:
            return room.startswith(self._prefixes)
        # With stars where a pattern has them, a room that it allows reads like the pattern: one look for all patterns
        # that have theirs in the same places, however many there are.
        return any(
            _marked(_encode({**wanted, **dict.fromkeys(names, "*")}).decode()) in self._granted
            for names in self._stars
            if all(name in wanted for name in names)
        )


_SEARCHED = 4096  # characters, searched in 1.5 µs at most; past that a set is worth its bytes


def _lookup(keys: Iterable[str]) -> str | frozenset[str]:
    text = "\n".join(("", *sorted(keys), ""))
    return text if len(text) <= _SEARCHED else frozenset(map(_marked, keys))


def _marked(key: str) -> str:
    return f"\n{key}\n"


def _starred(key: str) -> tuple[str, ...]:
    """The names in an object that have a star."""
    if '"*"' not in key:
        return ()
    # Interned: ten thousand connections have patterns with the same names.
    return tuple(sys.intern(name) for name, value in (_object(key) or {}).items() if value == "*")


def _object(text: str) -> Mapping[str, object] | None:
    """The object whose JSON text this is; None if it is none.

    Raises:
        InvalidRoom: It is one that no room can be.
    """
    if text.lstrip(" \t\r\n")[:1] != "{":  # JSON text may begin with white space
        return None
    try:
        value: Mapping[str, object] = _decode(text)
    except (ValueError, RecursionError):
        # Also JSON that this decoder does not hold: lone surrogates, numbers out of all ranges, ten thousand brackets.
        if _is_json(text):
            raise InvalidRoom("a room's object is flat, its numbers have 64 bits and its text is Unicode") from None
        return None
    return value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    except (RecursionError, ValueError):  # an integer of thousands of digits
        pass
    return True


def _string(name: str) -> str:
    if not name:
        raise InvalidRoom("a room's name is not empty")
    return _clean(name)


def _flat(value: Mapping[str, object]) -> str:
    for name, scalar in value.items():
        if not isinstance(name, str) or not name:
            raise InvalidRoom("the names in a room's object are strings and not empty")
        _clean(name)
        if isinstance(scalar, str):
            _clean(scalar)
        elif scalar is not None and not (isinstance(scalar, int) and _SMALLEST <= scalar <= _LARGEST):  # bool is an int
            raise InvalidRoom("the values in a room's object are strings, 64-bit integers, booleans or null")
    return _encode(dict(value)).decode()


def _prefix(prefix: object, size: int) -> str:
    if not isinstance(prefix, str):
        raise InvalidRoom("a prefix is a string")
    if len(_clean(prefix).encode()) > size:
        raise InvalidRoom(f"a prefix has at most {size} bytes")
    return prefix


def _clean(text: str) -> str:
    if not text.isprintable() and _FORBIDDEN.search(text):  # the first is quick, and true of most names
        raise InvalidRoom("a room's name holds no control characters and no lone surrogates")
    return text
