"""The opening handshake: a head, as bytes or as another parser left it, and the answer to it.

The first byte chooses: whether the rest is parsed here, or cut at its line ends without any check, as by a parser that
trusts everybody; and what is sent back.

Documented are a ``Refusal`` with 400, 405, 426 or 505, and an ``Opening`` whose parts are as its docstring says; the
response to either is one head that the plain reader below understands, with nothing of the client's between the lines.
A header of our own that must not be sent is a ``ValueError``.
"""

from __future__ import annotations

import re
from random import Random

from fuzzing.harness import Mutation, require

from fairlead.wire.deflate import negotiate
from fairlead.wire.heads import Field, Head
from fairlead.wire.opening import Opening, Refusal, judge, open_head, parse_head

LENGTH = 600
LOOSE, OWN = 1, 2  # bits of the first byte

_STATUSES = frozenset({400, 405, 426, 505})
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*").fullmatch
_STATUS_LINE = re.compile(rb"HTTP/1\.1 [0-9]{3} [A-Za-z ]+").fullmatch


def check(data: bytes) -> None:
    """One request."""
    if not data:
        return
    option, text = data[0], data[1:]
    head = _loose(text) if option & LOOSE else parse_head(text)
    verdict = head if isinstance(head, Refusal) else judge(*head)
    if isinstance(head, Head) and not option & LOOSE:
        _check_again(head, verdict)
        opened = None if isinstance(verdict, Refusal) else (verdict, head.headers)
        require(open_head(text) == opened, "judged at once, differently")
    if isinstance(verdict, Refusal):
        _check_refusal(verdict, isinstance(head, Head) and head.method == b"HEAD")
    else:
        require(type(verdict) is Opening, "an undocumented verdict")
        _check_opening(verdict, takeover=bool(option & OWN))
        _check_header(verdict, text)


def _loose(text: bytes) -> Head:
    """Method, target, version and headers, whatever they are."""
    lines = text.split(b"\r\n")
    method, _, rest = lines[0].partition(b" ")
    target, _, version = rest.rpartition(b" HTTP/")
    fields = [(name, value) for name, _, value in (line.partition(b":") for line in lines[1:] if line)]
    return Head(method, target, version.decode("latin-1"), fields)


def _check_again(head: Head, verdict: Opening | Refusal) -> None:
    """A head that was parsed, written in the plainest way, is the same one."""
    lines = [b"%b %b HTTP/%b" % (head.method, head.target, head.version.encode())]
    lines += [b"%b:%b" % field for field in head.headers]
    again = parse_head(b"\r\n".join([*lines, b"", b""]))
    require(again == head, "a head written anew is another one")
    require(judge(*head) == verdict, "judged twice, differently")


def _check_refusal(refusal: Refusal, to_head: bool) -> None:
    require(refusal.status in _STATUSES, "an undocumented status")
    response = refusal.response([(b"Date", b"now")])
    fields = _read(response)
    require(fields[b"connection"].startswith(b"close"), "a refusal leaves the connection open")
    require(int(fields[b"content-length"]) == len(refusal.body), "a body of another length")
    require(response.endswith(b"\r\n\r\n" + refusal.body), "a body that is not there")
    require(to_head is (refusal.body == b"") or not to_head, "a refusal without a word, or a body for HEAD")


def _check_opening(opening: Opening, *, takeover: bool) -> None:
    require(opening.path.startswith(b"/") and b"?" not in opening.path, "a path that is none")
    for part in (opening.path, opening.query, opening.host):
        require(part.isascii() and b" " not in part and part.decode().isprintable(), "an unsafe target or host")
    require(bool(opening.host) and len(opening.accept) == 28, "no host or no accept")
    require(all(map(_TOKEN, opening.subprotocols)), "a subprotocol that is no token")
    require(len(set(opening.subprotocols)) == len(opening.subprotocols), "a subprotocol twice")
    for name, parameters in opening.extensions:
        words = (name, *(word for pair in parameters for word in pair if word is not None))
        require(all(map(_TOKEN, words)), "an extension that is no token")
    agreement = negotiate(opening.extensions, takeover=takeover)
    agreed = None if agreement is None else agreement.response()
    subprotocol = opening.subprotocols[-1] if opening.subprotocols else None
    response = opening.response(subprotocol=subprotocol, extensions=agreed)
    fields = _read(response)
    require(response.endswith(b"\r\n\r\n"), "something after the head")
    require(fields[b"sec-websocket-accept"] == opening.accept, "another accept")
    require((b"sec-websocket-extensions" in fields) is (agreement is not None), "extensions that were not agreed on")
    require(fields.get(b"sec-websocket-protocol", b"").decode() == (subprotocol or ""), "another subprotocol")


def _check_header(opening: Opening, text: bytes) -> None:
    """A header whose value holds anything is one line, or refused."""
    field: Field = (b"Set-Cookie", text[-40:].rstrip(b"\r\n"))
    try:
        response = opening.response([field])
    except ValueError:
        return
    require(_read(response)[b"set-cookie"] == field[1], "a header of ours is another one")


def _read(response: bytes) -> dict[bytes, bytes]:
    """The fields of a response's head, in which none stands twice."""
    lines = response.partition(b"\r\n\r\n")[0].split(b"\r\n")
    require(_STATUS_LINE(lines[0]) is not None, "a malformed status line")
    fields = {}
    for line in lines[1:]:
        require(_LINE(line) is not None, "a malformed header line")
        name, _, value = line.partition(b": ")
        fields[name.lower()] = value
    require(len(fields) == len(lines) - 1, "a header line twice")
    return fields


_GOOD = (
    b"GET /ws/?token=a HTTP/1.1",
    b"Host: example.org:8000",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
_LINES = (
    b"Sec-WebSocket-Protocol: chat, superchat",
    b"Sec-WebSocket-Protocol: chat",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b'Sec-WebSocket-Extensions: a;b="c", permessage-deflate; server_max_window_bits=10;x',
    b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover",
    b"Sec-WebSocket-Version: 8",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==",
    b"Host: [::1]:80",
    b"Host: [::ffff:127.0.0.1]",
    b"Host:",
    b"Connection: close",
    b"Upgrade: h2c, WebSocket",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Origin: http://example.org",
    b"Cookie: a=\xe2\x82\xac; b=\xff",
    b"Cookie: a\x85b",
    b" folded: a",
    b"name : a",
    b"X: a\x0bb\x0cc\x1cd",
    b"X: a\rb",
    b"X: a\nb",
    b"",
)
_FIRSTS = (
    b"GET http://example.org:8000/ws/ HTTP/1.1",
    b"GET https://EXAMPLE.org:8000?a HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"GET * HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET / HTTP/2.0",
    b"GET  / HTTP/1.1",
    b"GET /\xe2\x82\xac#a HTTP/1.1",
)


def seeds() -> list[bytes]:
    """A browser's request, and what differs from it in one line."""
    variants: list[tuple[bytes, ...]] = [_GOOD]
    variants += [(*_GOOD, line) for line in _LINES]
    variants += [(first, *_GOOD[1:]) for first in _FIRSTS]
    variants += [(*_GOOD[:at], *_GOOD[at + 1 :]) for at in range(len(_GOOD))]
    return [bytes((option,)) + b"\r\n".join((*lines, b"", b"")) for lines in variants for option in (0, LOOSE | OWN)]


def mutate(data: bytes, random: Random, mutation: Mutation) -> bytes:
    """Change bytes, or in one case of two a whole line."""
    if random.random() < 0.5:
        return mutation(data)
    lines = data[1:].split(b"\r\n")
    at = int(random.random() * len(lines))
    choice = int(random.random() * 6)
    if choice == 0:
        lines[at] = mutation(lines[at])
    elif choice == 1:
        lines[0] = random.choice((_GOOD[0], *_FIRSTS))
    elif choice < 4:
        lines.insert(max(at, 1), random.choice((*_GOOD[1:], *_LINES)))
    elif choice == 4:
        name, colon, value = lines[at].partition(b":")
        lines[at] = name + colon + mutation(value)
    else:
        del lines[at]
    return data[:1] + b"\r\n".join(lines)
