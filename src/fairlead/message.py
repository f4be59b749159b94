"""What travels: a Publication between nodes, a Message or a Burst to a client, encoded at most once per wire form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

Kind = Literal["json", "text", "binary"]


class Publication(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is published to a room. Fields that a newer node adds are ignored by an older one.

    Attributes:
        data: As it came; of kind "json": UTF-8 on one line.
        kind: What ``data`` holds.
        exclude: The id of the connection that shall not receive it.
        offset: Position in the room's history, where there is one.
        epoch: The history that ``offset`` counts in.
        time: Unix seconds.
        tags: Free-form labels.
    """

    data: bytes
    kind: Kind = "json"
    exclude: str | None = None
    offset: int | None = None
    epoch: str | None = None
    time: float | None = None
    tags: Mapping[str, str] | None = None


class Form(Protocol):
    """One way in which messages become bytes. Transports with the same form object share the encoded bytes."""

    @property
    def shared(self) -> bool:
        """False where encoding the same message again gives other bytes: they are for one connection, once."""
        ...

    def encode(self, payload: bytes, *, binary: bool) -> bytes: ...

    def prefix(self, size: int, *, binary: bool) -> bytes | None:
        """What encoding puts before every payload of ``size`` bytes, and nothing else; None: it does more than that."""
        ...


class _PayloadForm:
    shared = True

    def encode(self, payload: bytes, *, binary: bool) -> bytes:
        return payload

    def prefix(self, size: int, *, binary: bool) -> bytes | None:
        return b""


PAYLOAD: Form = _PayloadForm()
"""Whole messages: whoever takes them makes the frames, or needs none."""


class Message(msgspec.Struct, eq=False, gc=False):
    """One whole outgoing text or binary message.

    Args:
        payload: The message's bytes; of a text message its UTF-8 encoding. Kept, not copied.
        binary: True for a binary message.
    """

    payload: bytes
    binary: bool = False
    _form: Form | None = None
    _wire: bytes = b""

    @property
    def messages(self) -> Sequence[Message]:
        """The messages in order: this one."""
        return (self,)

    def wire(self, form: Form) -> bytes:
        """The bytes in one wire form; those of the shared form asked for last are kept."""
        if self._form is form:
            return self._wire
        wire = form.encode(self.payload, binary=self.binary)
        if form.shared:
            self._form, self._wire = form, wire
        return wire


class Burst:
    """Several outgoing messages, all text or all binary, sent in order with one write.

    Args:
        payloads: The messages' bytes in order, each as for a Message. Kept, not copied.
        binary: True for binary messages.
    """

    __slots__ = ("_form", "_wire", "binary", "payloads")

    def __init__(self, payloads: Sequence[bytes], *, binary: bool = False) -> None:
        self.payloads = payloads
        self.binary = binary
        self._form: Form | None = None
        self._wire = b""

    @property
    def messages(self) -> Sequence[Message]:
        """The messages in order, made when asked for: a transport that writes bytes needs none."""
        return [Message(payload, binary=self.binary) for payload in self.payloads]

    def wire(self, form: Form) -> bytes:
        """The bytes of all messages in one wire form; those of the shared form asked for last are kept."""
        if self._form is form:
            return self._wire
        encode, binary = form.encode, self.binary
        wire = b"".join([encode(payload, binary=binary) for payload in self.payloads])
        if form.shared:
            self._form, self._wire = form, wire
        return wire
