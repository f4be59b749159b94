"""What a test's client asks for, as the handshake needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

Fields = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers by name, or as pairs where a name stands twice."""

Query = Mapping[str, str] | str
"""Parameters, or the text behind the question mark."""

# RFC 3986, 3.3: what may stand in a path; and the percent sign of what is encoded already.
_SAFE = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Asking:
    """One opening handshake.

    Attributes:
        path: Percent-encoded.
        query: What stands behind the question mark; "" without one.
        headers: All but those that every handshake has.
        subprotocols: What is offered, the favourite first.
    """

    path: str
    query: str
    headers: list[tuple[str, str]]
    subprotocols: Sequence[str]

    @property
    def target(self) -> str:
        """The path and the query."""
        return f"{self.path}?{self.query}" if self.query else self.path


def asking(
    path: str,
    *,
    headers: Fields | None = None,
    cookies: Mapping[str, str] | None = None,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    query: Query | None = None,
) -> Asking:
    """A handshake from what a test says of it; see ``connect``.

    Raises:
        ValueError: The path is not absolute, or there are two queries.
    """
    path, mark, written = path.partition("?")
    if not path.startswith("/"):
        raise ValueError(f"a path begins with a slash: {path!r}")
    if mark and query is not None:
        raise ValueError("the path has a query already")
    if query is not None:
        written = query if isinstance(query, str) else urlencode(query)
    fields = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    if cookies:
        fields.append(("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
    if origin is not None:
        fields.append(("Origin", origin))
    return Asking(quote(path, safe=_SAFE), written, fields, subprotocols)
