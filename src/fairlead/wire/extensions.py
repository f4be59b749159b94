"""The header ``Sec-WebSocket-Extensions`` (RFC 6455, 9.1): its lines in, what the client offers out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Extension(NamedTuple):
    """One offer: a name with its parameters in order, repeated ones too. A parameter without "=" has the value None.

    Names and values are as sent, since nothing in RFC 6455 or 7692 lets upper and lower case be alike here.
    """

    name: str
    parameters: tuple[tuple[str, str | None], ...] = ()


# "The value after quoted-string unescaping MUST conform to the 'token' ABNF" (RFC 6455, 9.1), so a comma or a semicolon
# always separates. Possessive throughout: what was matched once is never matched again, and time grows with the size.
# But nothing is captured inside a possessive repeat: Python 3.11.7's ``re`` raises SystemError for x;a=b;c="d" then.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb"(?:\\?+[!#$%&'*+\-.^_`|~0-9A-Za-z])++"
_ANY_PARAMETER = rb'[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|"%b"))?+' % (_TOKEN, _TOKEN, _QUOTED)
_PARAMETER = rb'[ \t]*+;[ \t]*+(%b)(?:[ \t]*+=[ \t]*+(?:(%b)|"(%b)"))?' % (_TOKEN, _TOKEN, _QUOTED)
_ELEMENT = rb"[ \t]*+(?:(%b)((?:%b)*+)|)[ \t]*+(?:,|\Z)" % (_TOKEN, _ANY_PARAMETER)

_parameters = re.compile(_PARAMETER).finditer
_element = re.compile(_ELEMENT).match


def parse_extensions(values: Iterable[bytes]) -> tuple[Extension, ...]:
    """Parse the values of all lines of the header, which together are one list (RFC 6455, 9.1).

    Returns:
        The offers in the client's order of preference, at least one.

    Raises:
        ValueError: Malformed, or without a single offer. "The recipient of such malformed data MUST immediately Fail
            the WebSocket Connection" (RFC 6455, 9.1); for a server that is 400 (4.2.1).
    """
    text = b",".join(values)
    offers = []
    at = 0
    while at < len(text):
        match = _element(text, at)
        if match is None:
            raise ValueError("Sec-WebSocket-Extensions is malformed")
        if match[1]:  # empty elements do not count (RFC 9110, 5.6.1.2)
            offers.append(Extension(match[1].decode(), tuple(map(_read, _parameters(match[2])))))
        at = match.end()
    if not offers:
        raise ValueError("Sec-WebSocket-Extensions is empty")
    return tuple(offers)


def _read(parameter: re.Match[bytes]) -> tuple[str, str | None]:
    name, token, quoted = parameter.groups()
    if quoted is not None:
        token = quoted.replace(b"\\", b"")
    return name.decode(), None if token is None else token.decode()
