"""The head of an HTTP/1.1 message: its first line and its header lines, read and written strictly (RFC 9110, 9112).

What the lines mean is judged elsewhere. Names and values are bytes from first to last, and only SP and HTAB are white
space: Python's ``str.splitlines`` and ``str.strip`` see line ends where HTTP has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Field = tuple[bytes, bytes]
"""A header line: name and value."""

OWS = b" \t"
"""The white space that may stand around a value (RFC 9110, 5.6.3)."""

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # RFC 9110, 5.6.2
_TARGET = bytes(range(0x21, 0x7F)).replace(b"#", b"")  # browsers send more of these bare than RFC 3986 has
_CONTROLS = bytes(range(0x20)).replace(b"\t", b"") + b"\x7f"
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_VERSION = re.compile(rb"HTTP/([0-9]\.[0-9])")
# A header line. Nothing between two newlines is matched but one whole line, so as many matches as lines are all lines.
_LINES = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)\r\n", re.MULTILINE)

_COMMON = (
    b"Accept Accept-Encoding Accept-Language Authorization Cache-Control Connection Cookie DNT Forwarded Host Origin "
    b"Pragma Priority Referer Sec-CH-UA Sec-CH-UA-Mobile Sec-CH-UA-Platform Sec-Fetch-Dest Sec-Fetch-Mode "
    b"Sec-Fetch-Site Sec-WebSocket-Extensions Sec-WebSocket-Key Sec-WebSocket-Protocol Sec-WebSocket-Version Upgrade "
    b"User-Agent X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Real-IP X-Request-ID"
).split()
NAMES = {name: name for name in map(bytes.lower, _COMMON)}
"""Of headers that browsers and proxies send, in lower case: kept once, and not by every connection whose handler keeps
its request, 50 bytes for each."""
_SPELLED = {spelled: NAMES[spelled.lower()] for name in _COMMON for spelled in (name, name.lower())}

_ONES_OWN = frozenset(
    b"authorization cookie forwarded referer sec-websocket-key sec-websocket-protocol x-forwarded-for x-real-ip "
    b"x-request-id".split()
)
_ALIKE = frozenset(NAMES) - _ONES_OWN
_KEPT = 1024  # lines
_KEPT_SIZE = 256  # bytes of a value
_kept: dict[Field, Field] = {}
"""Header lines as they came that many clients send alike, and as they are given on: kept once, and not by every
connection whose handler keeps its request, a browser's eleven for 1.5 KiB. Nothing in it tells who somebody is."""


class Head(NamedTuple):
    """A request's head.

    Attributes:
        method: As sent; a token.
        target: As sent; without white space, ``#`` and control characters.
        version: What follows ``HTTP/``: ``"1.1"``.
        headers: All header lines in order, repeated ones too: names in lower case, no white space around values.
    """

    method: bytes
    target: bytes
    version: str
    headers: list[Field]


def read_head(data: bytes) -> Head:
    """Read a whole request head (RFC 9112, 2.2, 3 and 5).

    Lines end with CR LF, no line is folded, nothing stands between a name and its colon. Time grows with the size,
    which the caller bounds.

    Args:
        data: From the method to the empty line, and nothing more.

    Raises:
        ValueError: It is malformed; the text says how, and quotes nothing.
    """
    first, _, rest = data.partition(b"\r\n")
    words = first.split(b" ")
    version = _VERSION.fullmatch(words[-1])
    if len(words) != 3 or not version or not is_token(words[0]) or not is_target(words[1]):
        raise ValueError("The request line is malformed")
    if rest != b"\r\n" and not rest.endswith(b"\r\n\r\n"):
        raise ValueError("The head does not end with an empty line")
    lines = _LINES.findall(rest)
    if rest.count(b"\n") != len(lines) + 1:  # one is the empty line's
        raise ValueError("A header line is malformed")
    headers = [_kept.get(line) or _field(*line) for line in lines]
    if not rest.isascii() and not all([is_clean(value) for _, value in headers]):
        raise ValueError("A header line is malformed")
    return Head(words[0], words[1], version[1].decode(), headers)


def _field(name: bytes, value: bytes) -> Field:
    """A line as it is given on."""
    field = (_SPELLED.get(name) or name.lower(), value.rstrip(OWS))
    if field[0] in _ALIKE and len(value) <= _KEPT_SIZE:
        if len(_kept) >= _KEPT:
            _kept.clear()
        _kept[name, value] = field
    return field


def are_lines(headers: Iterable[Sequence[bytes]]) -> bool:
    """Whether every name is a token and every value clean: where they are all at once, for a third of one by one.

    What is clean in a row is clean by itself: in UTF-8, since a space ends whatever a value begins, and where the row
    is no UTF-8, since there is no way to read one of its bytes as a control character.
    """
    names = [name for name, _ in headers]
    values = [value for _, value in headers]
    if not all(names) or b"".join(names).translate(None, _TOKEN):
        return False
    return is_clean(b" ".join(values)) or all(map(is_clean, values))


def line(name: bytes, value: bytes) -> bytes:
    """A header line to send, with its CR LF.

    Raises:
        ValueError: The name is not a token, or the value is not clean.
    """
    if not is_token(name) or not is_clean(value):
        raise ValueError(f"not a header line: {name!r}: {value!r}")
    return b"%s: %s\r\n" % (name, value)


def elements(values: Iterable[bytes]) -> list[bytes]:
    """The elements of a list header over all its lines; empty ones do not count (RFC 9110, 5.6.1)."""
    return [element for part in b",".join(values).split(b",") if (element := part.strip(OWS))]


def is_token(name: bytes) -> bool:
    """Whether this may be a method's or a header's name (RFC 9110, 5.6.2)."""
    return bool(name) and not name.translate(None, _TOKEN)


def is_target(target: bytes) -> bool:
    """Whether each byte may stand in a request target, whatever its form."""
    return not target.translate(None, _TARGET)


def is_clean(value: bytes) -> bool:
    """True without control characters but HTAB (RFC 9110, 5.5), NEL and its like (0x80-0x9F) among them.

    Browsers send cookies in UTF-8, where those bytes are parts of letters; so a value that is UTF-8 is read as that.
    """
    if value.isascii():
        return len(value.translate(None, _CONTROLS)) == len(value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return not _CONTROL_CHARACTER.search(text)
