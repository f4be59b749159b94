"""The application that every host serves: sockets, rooms, calls and HTTP, written as a user of the framework does.

What a handler saw, a test asks for over HTTP: ``GET /seen/KEY`` waits until the connection that was opened with
``?key=KEY`` has noted something. What a handler waits for, it is told with ``POST /tell/KEY``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from tests.behaviours.witness import Witness

from fairlead import App, Calls, Closed, Endpoint, Limits, Reject, Request, Router, WebSocket

LIMITS = Limits(message_rate=100_000, message_burst=100_000, close_timeout=1.0)
"""Clients send as fast as they can here: the rates are the native server's alone."""

LISTED = "https://listed.example"
SPOKEN = ("v2", "v1")
PIECE = bytes(64 * 1024)
FLOOD = 384
"""Pieces that are more than all buffers on the way hold together, with a server that waits: 24 MiB."""

STALLED = 0.5
"""Seconds without any progress after which somebody is taken to wait."""

app = App(limits=LIMITS)
router = Router()
calls = Calls()
witness = Witness()
rooms = app.rooms


class OnPurpose(Exception):
    """A failure of the application's, of which the client must learn nothing."""


# -- messages ----------------------------------------------------------------------------------------------------------


class Point(msgspec.Struct):
    """What ``/points`` and ``/strict`` take."""

    x: int
    y: int


@router.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@router.websocket("/points")
async def points(ws: WebSocket) -> None:
    async for point in ws.iter_json(type=Point):
        await ws.send_json(point.x + point.y)


@router.websocket("/strict")
async def strict(ws: WebSocket) -> None:
    await ws.receive_json(type=Point, invalid="raise")


@router.websocket("/impatient")
async def impatient(ws: WebSocket) -> None:
    try:
        await ws.receive(timeout=0.01)
    except TimeoutError:
        await ws.send("nothing yet")
    await ws.send(await ws.receive(timeout=5))


# -- handshakes --------------------------------------------------------------------------------------------------------


@router.websocket("/params/{number:int}/{name}/{rest:path}")
async def params(ws: WebSocket, number: int, name: str, rest: str) -> None:
    await ws.send_json([number, name, rest])


@router.websocket("/request")
async def request(ws: WebSocket) -> None:
    of = ws.request
    await ws.send_json(
        {
            "query": of.query,
            "cookies": of.cookies,
            "agent": of.headers.get("X-Agent"),
            "many": b",".join(of.values(b"x-many")).decode(),
            "scheme": of.scheme,
            "address": of.address,
            "path": of.path.removeprefix(of.scope.get("root_path", "")),
        }
    )


@router.websocket("/spoken", subprotocols=SPOKEN)
async def spoken(ws: WebSocket) -> None:
    await ws.send_json(ws.subprotocol)


async def set_cookies(request: Request) -> None:
    request.accept_headers += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-accepted", b"yes")]


@router.websocket("/cookies", guards=[set_cookies])
async def cookies(ws: WebSocket) -> None:
    await ws.receive()


async def refuse(request: Request) -> Reject:
    return Reject(401, "log in first\n", {"WWW-Authenticate": "Bearer"})


async def refuse_with_cookies(request: Request) -> Reject:
    return Reject(401, "log in first\n", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])


async def refuse_as_http(request: Request) -> None:
    raise HTTPException(409, "taken", headers={"x-why": "http"})


async def fail(request: Request) -> None:
    raise OnPurpose("secret")


@router.websocket("/refused", guards=[refuse], name="refused")
@router.websocket("/refused/with-cookies", guards=[refuse_with_cookies], name="refused_with_cookies")
@router.websocket("/refused/as-http", guards=[refuse_as_http], name="refused_as_http")
@router.websocket("/refused/by-failure", guards=[fail], name="refused_by_failure")
async def never(ws: WebSocket) -> None:
    await ws.send("let in")


async def first(request: Request) -> None:
    request.state["guards"] = ["first"]


async def second(request: Request) -> None:
    request.state["guards"].append("second")


@router.websocket("/guarded/{name}", guards=[first, second])
class Guarded(Endpoint):
    async def authorize(self, request: Request) -> Reject | None:
        self.name = request.params["name"]
        request.state["guards"].append("authorize")
        return Reject(403, "not you\n") if self.name == "eve" else None

    async def handle(self, ws: WebSocket) -> None:
        await ws.send_json([self.name, *ws.state["guards"]])


async def hesitate(request: Request) -> None:
    witness.note(request, "asked")
    await witness.told(request)


@router.websocket("/hesitant", guards=[hesitate])
async def hesitant(ws: WebSocket) -> None:
    await ws.send("at last")


@router.websocket("/origin/listed", allowed_origins=[LISTED], name="origin_listed")
@router.websocket("/origin/any", allowed_origins="*", name="origin_any")
@router.websocket("/origin")
async def origin(ws: WebSocket) -> None:
    await ws.send("let in")


@router.websocket("/both", name="socket")
async def both(ws: WebSocket) -> None:
    await ws.send("a socket")


@router.get("/both", name="page")
async def page(request: HttpRequest) -> Response:
    return PlainTextResponse("a page")


# -- endings -----------------------------------------------------------------------------------------------------------


@router.websocket("/returns")
async def returns(ws: WebSocket) -> None:
    pass


@router.websocket("/fails")
async def fails(ws: WebSocket) -> None:
    raise OnPurpose("secret")


@router.websocket("/closes")
async def closes(ws: WebSocket) -> None:
    for number in range(100):
        await ws.send(str(number))
    await ws.close(4001, "enough")
    await ws.close(4002, "too late")


@router.websocket("/ends")
async def ends(ws: WebSocket) -> None:
    """Receive only when the client has left; note all that came."""
    await ws.send("in")
    while not ws.closed:
        await asyncio.sleep(0.001)
    witness.note(ws, [message async for message in ws])


@router.websocket("/waits")
async def waits(ws: WebSocket) -> None:
    await ws.send("in")
    try:
        await ws.receive()
    except Closed as closed:
        witness.note(ws, [closed.code, closed.reason])


@router.websocket("/pushes")
async def pushes(ws: WebSocket) -> None:
    try:
        while True:
            await ws.send("more")
            await asyncio.sleep(0.001)
    except Closed:
        witness.note(ws, "ended")


@router.websocket("/sends-late")
async def sends_late(ws: WebSocket) -> None:
    await ws.send("in")
    async for _ in ws:
        pass
    try:
        await ws.send("late")
    except Closed:
        witness.note(ws, "raised")


@router.websocket("/task")
async def task(ws: WebSocket) -> None:
    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            witness.note(ws, "cancelled")

    ws.spawn(last())
    await ws.receive()


elsewhere = App(limits=Limits(handler_grace=0.1), unmatched="close", client_path="")
router.mount("/elsewhere", elsewhere)


@elsewhere.websocket("/deaf")
async def deaf(ws: WebSocket) -> None:
    """Neither receive nor send."""
    await ws.send("in")
    try:
        await asyncio.Event().wait()
    finally:
        witness.note(ws, "cancelled")


@elsewhere.websocket("/task/fails")
async def task_fails(ws: WebSocket) -> None:
    async def failing() -> None:
        raise OnPurpose("secret")

    ws.spawn(failing())
    await asyncio.Event().wait()


# -- rooms -------------------------------------------------------------------------------------------------------------


@router.websocket("/chat/{room}")
async def chat(ws: WebSocket, room: str) -> None:
    """Publish what comes; "leave" and "back" are for oneself, "others" is for the others, "more" for a large one."""
    here = rooms[room]
    await ws.join(here)
    await ws.send("in")
    async for message in ws:
        if message == "leave":
            await ws.leave(here)
            await ws.send("left")
        elif message == "back":
            await ws.join(here)
        elif message == "others":
            await here.publish(message, exclude=ws)
        elif message == "more":
            await here.publish(PIECE)
        else:
            await here.publish(message)


@router.websocket("/order/{room}")
async def order(ws: WebSocket, room: str) -> None:
    """Send and publish by turns."""
    here = rooms[room]
    await here.publish("before joining")
    await ws.join(here)
    for number in range(0, 20, 2):
        await here.publish(str(number))
        await ws.send(str(number + 1))
    await ws.leave(here)
    await here.publish("after leaving")


@router.websocket("/two/{one}/{other}")
async def two(ws: WebSocket, one: str, other: str) -> None:
    await ws.join(rooms[one])
    await ws.join(rooms[other])
    await ws.send("in")
    await ws.receive()
    await ws.leave(rooms[one])
    await ws.send_json([room.key for room in ws.rooms])
    await ws.receive()


@router.websocket("/named/{room}")
async def named(ws: WebSocket, room: str) -> None:
    """Join by the name alone, as in an App."""
    await ws.join(room)
    await ws.send("joined" if ws in rooms[room] else "not joined")


@router.post("/rooms/{room}")
async def publish(request: HttpRequest) -> Response:
    room = rooms[request.path_params["room"]]
    await room.publish(await request.json())
    return JSONResponse(len(room))


# -- pressure ----------------------------------------------------------------------------------------------------------


@router.websocket("/gushes")
async def gushes(ws: WebSocket) -> None:
    """Once told to, send until sending waits, and note whether it ever did."""
    await witness.told(ws)
    sent = 0
    try:
        while sent < FLOOD:
            async with asyncio.timeout(STALLED):
                await ws.send(PIECE)
            sent += 1
    except TimeoutError:
        pass
    witness.note(ws, "never waits" if sent == FLOOD else "waits")
    async for _ in ws:
        pass


@router.websocket("/reads-late")
async def reads_late(ws: WebSocket) -> None:
    """Receive only when told to; say how many bytes came."""
    await witness.told(ws)
    size = 0
    for _ in range(FLOOD):
        size += len(await ws.receive())
    await ws.send(str(size))


# -- calls -------------------------------------------------------------------------------------------------------------


@calls.call()
async def add(a: int, b: int) -> int:
    return a + b


@calls.call()
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


router.add(calls.route("/calls"))


# -- between a test and its handlers -----------------------------------------------------------------------------------


@router.get("/seen/{key}")
async def seen(request: HttpRequest) -> Response:
    try:
        return JSONResponse(await witness.fact(request.path_params["key"]))
    except TimeoutError:
        return PlainTextResponse("nothing was noted", 504)


@router.post("/tell/{key}")
async def tell(request: HttpRequest) -> Response:
    await request.body()  # to answer before its end makes Hypercorn drop the HTTP/2 connection
    witness.tell(request.path_params["key"])
    return Response(status_code=204)


app.include(router)
