"""A JSON-RPC call and its answer: server CPU per call, one at a time and 20 together.

``add(a: int, b: int)``, on 20 connections. Ours: ``App.call``. The peer: a FastAPI route with pydantic models. Both
convert the arguments, and answer under the caller's id.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from clients import Crowd, Undelivered, payloads, text, upgrade
from harness import Subject, Target, compare, options, script

CONNECTIONS = 20
TOGETHER = 20
SYSTEMS = {
    "fairlead": ("handlers.py", ("fairlead",)),
    "fastapi": ("peers/with_fastapi.py", ("fastapi", "pydantic", "uvicorn")),
}


def calls(connection: int, together: int) -> dict[int, tuple[int, int]]:
    """The arguments of one connection's calls by their ids; ids and sums have the same length in all rounds."""
    return {10_000 + position: (1000 + connection, position) for position in range(together)}


def measure(name: str, *, together: int, rounds: int) -> float:
    """One repeat on a fresh server: microseconds of server CPU per call."""
    with script(name) as server:
        crowd = Crowd(server.port)
        crowd.open([upgrade("/rpc")] * CONNECTIONS)
        sent = [calls(connection, together) for connection in range(CONNECTIONS)]
        segments = [b"".join(text(_request(*call)) for call in of_one.items()) for of_one in sent]
        crowd.send(segments)
        crowd.receive_frames(together)
        size = sum(map(len, crowd.take()))
        for _ in range(max(1, rounds // 10)):
            crowd.send(segments)
            crowd.receive(size)
        crowd.take()
        before = server.cpu()
        for _ in range(rounds):
            crowd.send(segments)
            crowd.receive(size)
        used = server.cpu() - before
        verify(crowd.take(), sent, rounds)
        crowd.close()
    return used / (CONNECTIONS * together * rounds) * 1e6


def _request(id: int, arguments: tuple[int, int]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": "add", "params": arguments, "id": id}).encode()


def verify(streams: Sequence[bytes], sent: Sequence[dict[int, tuple[int, int]]], rounds: int) -> None:
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
    quick, repeats = options(__doc__, quick=2, full=5)
    for title, together, rounds in (("one at a time", 1, 2000), (f"{TOGETHER} together", TOGETHER, 200)):
        rounds = rounds // 4 if quick else rounds
        compare(
            f"calls, {title}, {CONNECTIONS} connections, {CONNECTIONS * together * rounds} calls, all verified",
            "us CPU/call",
            [
                Subject(system, packages, functools.partial(measure, path, together=together, rounds=rounds))
                for system, (path, packages) in SYSTEMS.items()
            ],
            repeats,
            [Target("fairlead", 0.6, "fastapi")],
        )


if __name__ == "__main__":
    main()
