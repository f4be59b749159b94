"""Messages: what goes in comes out, whole, typed and in order."""

from __future__ import annotations

from tests.behaviours.behaviour import expect
from tests.behaviours.hosts import Site

from fairlead.errors import Closed
from fairlead.limits import MIB

BORDERS = (125, 126, 127, 65_535, 65_536)
"""Lengths around which a frame's head changes its form (RFC 6455, 5.2)."""

WORDS = "Fähre, паром, 渡船, 🚢, \x00, e\u0301"


async def echo(site: Site, *messages: str | bytes) -> list[str | bytes]:
    """What comes back of messages that are sent at once."""
    async with site.connect("/echo") as client:
        for message in messages:
            await client.send(message)
        return [await client.receive() for _ in messages]


@expect(["hello"])
async def text_comes_back(site: Site) -> object:
    return await echo(site, "hello")


@expect([bytes(range(256))])
async def binary_comes_back(site: Site) -> object:
    return await echo(site, bytes(range(256)))


async def first_back(site: Site, *messages: str | bytes) -> str | bytes:
    """What comes back first of messages that are sent at once."""
    async with site.connect("/echo") as client:
        for message in messages:
            await client.send(message)
        return await client.receive()


@expect("")
async def an_empty_text_is_a_message(site: Site) -> object:
    return await first_back(site, "", "after")


@expect(b"")
async def an_empty_binary_message_is_a_message(site: Site) -> object:
    return await first_back(site, b"", "after")


@expect([WORDS])
async def text_of_all_scripts_comes_back(site: Site) -> object:
    return await echo(site, WORDS)


@expect(True)
async def a_mebibyte_of_text_comes_back(site: Site) -> object:
    text = "ü" * (MIB // 2)
    return await echo(site, text) == [text]


@expect(True)
async def a_mebibyte_of_bytes_comes_back(site: Site) -> object:
    data = bytes(range(256)) * (MIB // 256)
    return await echo(site, data) == [data]


@expect([*BORDERS, *BORDERS])
async def every_form_of_a_frame_comes_back(site: Site) -> object:
    texts = ["x" * size for size in BORDERS]
    return [len(message) for message in await echo(site, *texts, *(text.encode() for text in texts))]


@expect([str(number) for number in range(500)])
async def many_messages_keep_their_order(site: Site) -> object:
    return await echo(site, *map(str, range(500)))


@expect(["a", b"a", "b", b"b"])
async def text_and_binary_stay_what_they_are(site: Site) -> object:
    return await echo(site, "a", b"a", "b", b"b")


@expect("closed with 1009")
async def a_message_past_the_limit_closes_the_connection(site: Site) -> object:
    try:
        return f"{len(await first_back(site, bytes(MIB + 1)))} bytes come back"
    except Closed as closed:
        return f"closed with {closed.code}"


@expect([3, "error", "error", "error", 7])
async def a_message_that_is_not_the_json_asked_for_is_answered(site: Site) -> object:
    async with site.connect("/points") as client:
        for message in ('{"x": 1, "y": 2}', "{", '{"x": 1}', b"\xff", '{"x": 3, "y": 4}'):
            await client.send(message)
        answers = [await client.receive_json() for _ in range(5)]
        return [each if isinstance(each, int) else each["code"] for each in answers]


@expect((1007, "invalid message"))
async def or_it_closes_the_connection_where_the_handler_wants_that(site: Site) -> object:
    async with site.connect("/strict") as client:
        await client.send("{")
        return tuple(await client.closed())


@expect(["nothing yet", "now"])
async def a_receive_that_gives_up_loses_nothing(site: Site) -> object:
    async with site.connect("/impatient") as client:
        waited = await client.receive()
        await client.send("now")
        return [waited, await client.receive()]


@expect({"jsonrpc": "2.0", "id": 1, "result": 3})
async def a_named_call_is_answered(site: Site) -> object:
    async with site.connect("/calls") as client:
        await client.send_json({"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]})
        return await client.receive_json()


@expect([0, 1, 2])
async def a_call_that_yields_sends_every_value(site: Site) -> object:
    async with site.connect("/calls") as client:
        await client.send_json({"jsonrpc": "2.0", "id": 1, "method": "count", "params": {"to": 3}})
        return [(await client.receive_json())["params"]["value"] for _ in range(3)]
