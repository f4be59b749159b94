"""A JSON-RPC call and its answer: server CPU per call, one at a time and 20 together.

``add(a: int, b: int)``, on 20 connections. Ours: ``App.call``. The peer: a FastAPI route with pydantic models. Both
convert the arguments, and answer under the caller's id.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from clients import Undelivered, payloads, text
from dialogue import converse
from harness import Bench, Sample, Subject, Target
from servers import script

CONNECTIONS = 20
TOGETHER = 20
SYSTEMS = {
    "fairlead": ("handlers.py", ("fairlead",)),
    "fastapi": ("peers/with_fastapi.py", ("fastapi", "pydantic", "uvicorn")),
}


def calls(connection: int, together: int) -> dict[int, tuple[int, int]]:
    """The arguments of one connection's calls by their ids."""
    return {10_000 + position: (1000 + connection, position) for position in range(together)}


def measure(name: str, *, together: int, rounds: int) -> Sample:
    """One repeat on a fresh server."""
    sent = [calls(connection, together) for connection in range(CONNECTIONS)]
    segments = [b"".join(text(_request(*call)) for call in of_one.items()) for of_one in sent]
    with script(name) as server:
        return converse(server, "/rpc", segments, together, rounds, functools.partial(verify, sent))


def _request(id: int, arguments: tuple[int, int]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": "add", "params": arguments, "id": id}).encode()


def verify(sent: Sequence[dict[int, tuple[int, int]]], streams: Sequence[bytes], rounds: int) -> None:
    """Every call got its answer once, in any order within a round."""
    for stream, calls in zip(streams, sent, strict=True):
        answers = [json.loads(payload) for payload in payloads(stream)]
        expected = sorted((id, sum(arguments)) for id, arguments in calls.items())
        for first in range(0, rounds * len(calls), len(calls)):
            got = [(each["id"], each.get("result")) for each in answers[first : first + len(calls)]]
            if sorted(got) != expected:
                raise Undelivered(f"instead of {expected[:3]} the answers were {answers[first : first + 3]}")


def main() -> None:
    """Compare both, both ways."""
    bench = Bench(__doc__)
    for title, together, rounds in (("one at a time", 1, 2000), (f"{TOGETHER} together", TOGETHER, 200)):
        rounds = bench.share(rounds)
        subjects = [
            Subject(system, packages, functools.partial(measure, path, together=together, rounds=rounds))
            for system, (path, packages) in SYSTEMS.items()
        ]
        title = f"calls, {title}, {CONNECTIONS} connections"
        bench.compare(title, "us CPU/call", subjects, [Target("fairlead", 0.6, "fastapi")])


if __name__ == "__main__":
    main()
