"""Socket routes: what is found, what is agreed on, and what cannot be registered."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, NoMatchFound, Route
from starlette.routing import Router as StarletteRouter
from tests.routes import OTHER, App, http, noting, page, refused, refusing, saying, tell, told

from fairlead.errors import Closed, UsageError
from fairlead.handshake import Reject, Request
from fairlead.limits import Limits
from fairlead.rooms.room import Rooms
from fairlead.routing import ROOMS, Endpoint, Router, WebSocketRoute
from fairlead.testing import connect
from fairlead.transports.asgi import EXTENSION
from fairlead.websocket import WebSocket


@pytest.fixture
def router() -> Router:
    return Router()


# -- what is found -----------------------------------------------------------------------------------------------------


async def test_parameters_are_decoded_and_converted_and_the_query_is_none_of_them(router: Router) -> None:
    router.websocket("/thing/{id:int}/{name}")(tell)
    said = await told(router, "/thing/7/a%20b%2Bc?x=1&y=%26")
    assert said["params"] == {"id": 7, "name": "a b+c"}
    assert (said["path"], said["query"]) == ("/thing/7/a b+c", {"x": "1", "y": "&"})


@pytest.mark.parametrize("path", ["/A", "/a/", "//a", "/a/b", "/", "/?x=/a", "/thing/?id=1", "/thing/x"])
async def test_what_no_route_has_is_404_before_the_101(router: Router, path: str) -> None:
    router.websocket("/a")(tell)
    router.websocket("/thing/{id:int}")(tell)
    refusal = await refused(router, path, 404)
    assert (refusal.text, refusal.headers["content-type"]) == ("not found\n", "text/plain")


async def test_or_it_is_let_in_and_closed_with_4040() -> None:
    router = Router(unmatched="close")
    router.websocket("/a")(tell)
    async with connect(router, "/b") as client:
        assert await client.closed() == (4040, "")


async def test_the_first_of_those_that_match_is_taken(router: Router) -> None:
    router.websocket("/{anything:path}/end")(saying("first"))
    router.websocket("/a/{id:int}")(saying("number"))
    router.websocket("/a/{id}")(saying("text"))
    router.websocket("/a/1")(saying("never"))
    assert [await told(router, path) for path in ("/a/end", "/a/1", "/a/x")] == ["first", "number", "text"]


async def test_handlers_take_the_parameters_they_name(router: Router) -> None:
    said: list[object] = []

    @router.websocket("/{a:int}/{b}")
    async def some(ws: WebSocket, b: str, c: str = "default") -> None:
        said.append((b, c))

    @router.websocket("/all/{a:int}/{b}")
    async def everything(ws: WebSocket, **params: object) -> None:
        said.append(params)

    @router.websocket("/only/{a:int}/{b}")
    async def only(ws: WebSocket, *, a: int) -> None:
        said.append(a)

    class Callable_:
        async def __call__(self, ws: WebSocket, a: int) -> None:
            said.append(("object", a))

        async def method(self, ws: WebSocket, a: int) -> None:
            said.append(("method", a))

    async def three(word: str, ws: WebSocket, a: int) -> None:
        said.append((word, a))

    router.websocket("/object/{a:int}/")(Callable_())
    router.websocket("/method/{a:int}/")(Callable_().method)
    router.websocket("/partial/{a:int}/")(functools.partial(three, "partial"))
    paths = ["/1/x", "/all/1/x", "/only/1/x", "/object/1/", "/method/1/", "/partial/1/"]
    for path in paths:
        async with connect(router, path) as client:
            assert await client.closed() == (1000, "")
    assert said == [("x", "default"), {"a": 1, "b": "x"}, 1, ("object", 1), ("method", 1), ("partial", 1)]


async def test_a_list_of_routes_that_anybody_changes_is_looked_at_again(router: Router) -> None:
    router.websocket("/a")(saying("a"))
    assert await told(router, "/a") == "a"
    router.routes.append(WebSocketRoute("/b", saying("b")))
    assert await told(router, "/b") == "b"
    handler = saying("c")
    router.routes[:] = [WebSocketRoute("/a", handler)]
    assert await told(router, "/a") == "c"
    await refused(router, "/b", 404)
    router.routes[0] = WebSocketRoute("/a", handler, guards=[refusing(401)])
    await refused(router, "/a", 401)


parts = st.sampled_from(["a", "b", "{x}", "{x:int}", "1", ""])
paths = (
    st.lists(parts, min_size=1, max_size=3).map(lambda each: "/" + "/".join(each)).filter(lambda p: p.count("x") < 2)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(paths, max_size=6), st.lists(st.sampled_from(["a", "b", "1", ""]), max_size=3), st.booleans())
def test_what_is_found_is_what_trying_all_routes_in_order_finds(
    patterns: list[str], asked: list[str], mounted: bool
) -> None:
    path = "/" + "/".join(asked)
    routes: list[Any] = [WebSocketRoute(pattern, tell) for pattern in patterns]
    if mounted:
        routes.insert(len(routes) // 2, Mount("/a", app=StarletteRouter()))
    router = Router()
    router.routes.extend(routes)
    scope = {"type": "websocket", "path": path, "headers": []}
    found = router._find(dict(scope))
    matching = [each for each in routes if each.matches(scope)[0].name == "FULL"]
    assert found is (matching[0] if matching else None)


# -- plain HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_a_plain_request_to_a_socket_is_told_to_upgrade(router: Router, method: str) -> None:
    router.websocket("/a/{id:int}")(tell)
    status, headers, body = await http(router, "/a/1", method)
    assert (status, headers["upgrade"], headers["connection"]) == (426, "websocket", "upgrade")
    assert b"WebSocket" in body
    status, headers, _ = await http(router, "/a/1", method, http_version="2")
    assert status == 426 and "upgrade" not in headers and "connection" not in headers
    assert (await http(router, "/a/x", method))[0] == 404


async def test_a_socket_and_a_page_may_share_a_path(router: Router) -> None:
    router.websocket("/first")(saying("socket"))
    router.get("/first")(page)
    router.get("/second")(page)
    router.websocket("/second")(saying("socket"))
    for path in ("/first", "/second"):
        assert await told(router, path) == "socket"
        assert (await http(router, path))[::2] == (200, b"page {}")
    # Of the two that could answer another method the first one does.
    assert (await http(router, "/first", "POST"))[0] == 426
    assert (await http(router, "/second", "POST"))[0] == 405


async def test_http_routes_have_their_methods(router: Router) -> None:
    for method in ("get", "post", "put", "patch", "delete"):
        getattr(router, method)("/x", name=method)(page)
    router.route("/y", methods=["GET", "POST"])(page)
    assert [route.methods for route in router.routes if isinstance(route, Route)] == [
        {"GET", "HEAD"},
        {"POST"},
        {"PUT"},
        {"PATCH"},
        {"DELETE"},
        {"GET", "HEAD", "POST"},
    ]
    assert (await http(router, "/x", "DELETE"))[0] == 200
    assert (await http(router, "/y", "PUT"))[0] == 405
    await refused(router, "/x", 404)


async def test_slashes_redirect_pages_and_never_sockets(router: Router) -> None:
    router.get("/page")(page)
    router.websocket("/socket")(tell)
    assert (await http(router, "/page/"))[0] == 307
    await refused(router, "/socket/", 404)


async def test_what_is_neither_is_no_match() -> None:
    assert WebSocketRoute("/a", tell).matches({"type": "lifespan"})[0].name == "NONE"


# -- endpoints ---------------------------------------------------------------------------------------------------------


async def test_each_connection_has_an_endpoint_of_its_own_and_its_guard_and_handler_share_it(router: Router) -> None:
    made: list[Endpoint] = []

    @router.websocket("/{name}")
    class Chat(Endpoint):
        async def authorize(self, request: Request) -> Reject | None:
            self.name = request.params["name"]
            return Reject(404, f"thing {self.name!r} not found\n") if self.name == "x" else None

        async def handle(self, ws: WebSocket, name: str) -> None:
            made.append(self)
            await ws.send_json([self.name, name])
            await ws.receive()

    async with connect(router, "/a") as first, connect(router, "/b") as second:
        assert await first.receive_json() == ["a", "a"]
        assert await second.receive_json() == ["b", "b"]
    assert len(set(made)) == 2
    assert (await refused(router, "/x", 404)).text == "thing 'x' not found\n"


async def test_an_endpoint_lets_everybody_in_unless_it_says_otherwise(router: Router) -> None:
    @router.websocket("/")
    class Open(Endpoint):
        async def handle(self, ws: WebSocket) -> None:
            await ws.send_json("in")

    assert await told(router, "/") == "in"
    with pytest.raises(NotImplementedError):
        await Endpoint().handle(None)  # type: ignore[arg-type]


async def test_an_endpoint_that_cannot_be_made_refuses(router: Router) -> None:
    @router.websocket("/")
    class Broken(Endpoint):
        def __init__(self) -> None:
            raise ValueError("secret")

        async def handle(self, ws: WebSocket) -> None: ...

    assert "secret" not in (await refused(router, "/", 500)).text


# -- what is agreed on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "agreed"), [([], None), (["c"], None), (["a"], "a"), (["c", "a", "b"], "b"), (["B"], None)]
)
async def test_the_routes_favourite_among_those_offered_is_agreed_on(
    router: Router, offered: list[str], agreed: str | None
) -> None:
    @router.websocket("/", subprotocols=["b", "a"])
    async def say(ws: WebSocket) -> None:
        await ws.send_json(ws.subprotocol)

    async with connect(router, "/", subprotocols=offered) as client:
        assert (client.subprotocol, await client.receive_json()) == (agreed, agreed)


async def test_a_guard_may_choose_the_subprotocol_and_set_headers_of_the_101(router: Router) -> None:
    async def guard(request: Request) -> None:
        request.subprotocol = request.subprotocols[-1]
        request.accept_headers += [(b"set-cookie", b"sid=1; HttpOnly"), (b"set-cookie", b"b=2")]

    router.websocket("/", guards=[guard], subprotocols=["a"])(tell)
    async with connect(router, "/", subprotocols=["a", "z"]) as client:
        assert client.subprotocol == "z"
        assert [value for name, value in client.headers._raw if name == b"set-cookie"] == [b"sid=1; HttpOnly", b"b=2"]


async def test_a_route_says_what_the_handler_holds() -> None:
    class Special(WebSocket):
        __slots__ = ()

    async def say(ws: WebSocket) -> None:
        await ws.send_json(type(ws).__name__)

    route = WebSocketRoute("/", say)
    route.socket = Special
    outer = Router()
    outer.include(Router([route]), "/x")
    assert await told(outer, "/x/") == "Special"


# -- in other routers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Starlette, FastAPI, StarletteRouter])
async def test_a_route_works_in_any_list_of_routes(kind: Callable[..., Any]) -> None:
    route = WebSocketRoute("/thing/{id:int}", tell, guards=[noting([], "")], name="thing")
    app = kind(routes=[route])
    assert (await told(app, "/thing/7?x=1"))["params"] == {"id": 7}
    await refused(app, "/thing/7", 403, origin=OTHER)
    assert (await http(app, "/thing/7"))[0] == 426
    assert app.url_path_for("thing", id=7) == "/thing/7"


async def test_a_route_works_under_mounts_and_in_fastapi_added_later() -> None:
    app = FastAPI()

    @app.get("/page")
    async def fastapi_page() -> str:
        return "page"

    app.router.routes.append(WebSocketRoute("/late", tell))
    app.mount("/m/{tenant}", StarletteRouter([WebSocketRoute("/{id:int}", tell)]))
    assert (await told(app, "/late"))["params"] == {}
    assert (await told(app, "/m/t/7"))["params"] == {"tenant": "t", "id": 7}
    assert (await http(app, "/page"))[2] == b'"page"'
    assert (await http(app, "/openapi.json"))[0] == 200


async def test_a_route_is_an_application_of_its_own() -> None:
    route = WebSocketRoute("/a", saying("alone"))
    assert await told(route, "/a") == "alone"
    assert (await http(route, "/a"))[0] == 426
    assert (await http(route, "/b"))[0] == 404
    assert repr(route) == "<WebSocketRoute /a say>"


async def test_a_root_path_is_not_part_of_the_path(router: Router) -> None:
    router.websocket("/a")(saying("found"))

    async def behind_proxy(scope: Any, receive: Any, send: Any) -> None:
        await router({**scope, "root_path": "/site"}, receive, send)

    assert await told(behind_proxy, "/site/a") == "found"
    await refused(behind_proxy, "/site/site/a", 404)


class Foreign:
    """A server without our extension, and a client that sends and leaves when it is told to."""

    def __init__(self, app: App, *, limits: Limits | None = None) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[MutableMapping[str, Any]] = []
        scope: dict[str, Any] = {"type": "websocket", "path": "/a", "headers": [], "subprotocols": []}
        scope[ROOMS] = Rooms(limits=limits)
        self.put("connect")
        self.running = asyncio.ensure_future(app(scope, self.incoming.get, self._send))

    def put(self, kind: str, **fields: Any) -> None:
        self.incoming.put_nowait({"type": f"websocket.{kind}", **fields})

    async def _send(self, event: MutableMapping[str, Any]) -> None:
        self.sent.append(event)

    async def end(self) -> list[str]:
        async with asyncio.timeout(5):
            await self.running
        return [event["type"].removeprefix("websocket.") for event in self.sent]


async def test_under_a_foreign_server_the_call_lasts_as_long_as_the_connection(router: Router) -> None:
    @router.websocket("/a")
    async def echo(ws: WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    server = Foreign(router)
    server.put("receive", text="hello")
    server.put("receive", bytes=b"bytes")
    async with asyncio.timeout(5):
        while len(server.sent) < 3:
            await asyncio.sleep(0)
    assert not server.running.done()
    server.put("disconnect", code=1001)
    assert await server.end() == ["accept", "send", "send"]


async def test_under_a_foreign_server_what_a_handler_sent_goes_out_before_its_close(router: Router) -> None:
    router.websocket("/a")(saying("last"))
    server = Foreign(router)
    assert await server.end() == ["accept", "send", "close"]
    assert server.sent[-1]["code"] == 1000


async def test_under_a_foreign_server_a_handler_that_waits_for_ever_is_cancelled(router: Router) -> None:
    @router.websocket("/a")
    async def never(ws: WebSocket) -> None:
        await asyncio.Event().wait()

    server = Foreign(router, limits=Limits(handler_grace=0.1))
    server.put("disconnect", code=1001)
    assert await server.end() == ["accept"]


async def test_under_a_foreign_server_the_refusal_may_be_a_bare_close(router: Router) -> None:
    router.websocket("/a", guards=[refusing(401)])(tell)
    server = Foreign(router)
    assert await server.end() == ["close"]


async def test_a_client_that_leaves_while_a_guard_thinks_reaches_no_handler(router: Router) -> None:
    asked, thought, log = asyncio.Event(), asyncio.Event(), list[str]()

    async def think(request: Request) -> None:
        asked.set()
        await thought.wait()

    @router.websocket("/a", guards=[think])
    async def handler(ws: WebSocket) -> None:
        log.append("handled")

    class Gone:
        def attach(self, receiver: object) -> None:
            raise OSError("the client left")

    async def gone(scope: Any, receive: Any, send: Any) -> None:
        await router({**scope, "extensions": {EXTENSION: Gone()}}, receive, send)

    server = Foreign(gone)
    await asked.wait()
    thought.set()
    with pytest.raises(OSError):
        await server.end()
    assert log == [] and server.sent == []


# -- names, prefixes, inclusion ----------------------------------------------------------------------------------------


async def test_paths_are_written_from_names(router: Router) -> None:
    router.websocket("/thing/{id:int}", name="thing")(tell)
    router.websocket("/plain")(tell)
    inner = Router(prefix="/inner")
    inner.websocket(r"/{day:\d\d}", name="day")(tell)
    router.include(inner, "/v1")
    router.mount("/m", inner, name="mounted")
    router.mount("/n/{tenant}", inner)
    assert str(router.url_path_for("thing", id=7)) == "/thing/7"
    assert router.url_path_for("thing", id=7).protocol == "websocket"
    assert router.url_path_for("tell") == "/plain"
    assert router.url_path_for("day", day="31") == "/v1/inner/31"
    assert router.url_path_for("mounted:day", day="31") == "/m/inner/31"
    assert router.url_path_for("day", day="31", tenant="t") == "/n/t/inner/31"
    for name, params in (("nothing", {}), ("thing", {}), ("thing", {"id": 7, "x": 1})):
        with pytest.raises(NoMatchFound):
            router.url_path_for(name, **params)
    with pytest.raises(ValueError, match="does not match"):
        router.url_path_for("day", day="x")


async def test_an_endpoint_is_named_after_itself() -> None:
    class Chat(Endpoint):
        async def handle(self, ws: WebSocket) -> None: ...

    assert WebSocketRoute("/", Chat).name == "Chat"
    assert WebSocketRoute("/", functools.partial(tell)).name == "partial"


async def test_prefixes_stand_before_all_that_is_registered_and_included() -> None:
    one, two, three = Router(prefix="/one"), Router(prefix="/two"), Router(prefix="/three")
    three.websocket("/{id:int}")(tell)
    three.get("/page")(page)
    three.mount("/m", Router([WebSocketRoute("/x", tell)]))
    two.include(three)
    one.include(two, "/between")
    base = "/one/between/two/three"
    assert (await told(one, f"{base}/7"))["params"] == {"id": 7}
    assert (await told(one, f"{base}/m/x"))["path"] == f"{base}/m/x"
    assert (await http(one, f"{base}/page"))[0] == 200
    await refused(one, "/three/7", 404)


async def test_what_is_included_stays_as_it_is_elsewhere() -> None:
    inner = Router()
    inner.websocket("/a")(saying("a"))
    guarded = Router()
    guarded.include(Router(inner.routes, guards=[refusing(401)]), "/g")
    inner.websocket("/later")(saying("later"))
    assert await told(inner, "/a") == "a"
    await refused(guarded, "/g/a", 401)
    await refused(guarded, "/g/later", 404)


async def test_a_router_included_in_itself_is_taken_as_it_was(router: Router) -> None:
    router.websocket("/a")(saying("a"))
    router.include(router, "/again")
    assert [await told(router, path) for path in ("/a", "/again/a")] == ["a", "a"]
    await refused(router, "/again/again/a", 404)


class Stamp:
    """Middleware that leaves a mark."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, "stamped": True}, receive, send)


async def test_an_included_page_keeps_its_middleware() -> None:
    async def stamped(request: HttpRequest) -> Response:
        return PlainTextResponse(str(request.scope.get("stamped")))

    inner = Router([Route("/{id:int}", stamped, middleware=[Middleware(Stamp)])])
    outer = Router()
    outer.include(inner, "/in")
    assert (await http(outer, "/in/1"))[2] == b"True"


async def test_a_fastapi_page_can_be_included() -> None:
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @api.get("/sum/{a}")
    async def add(a: int, b: int = 1) -> int:
        return a + b

    outer = Router()
    outer.mount("/api", api)
    assert (await http(outer, "/api/sum/2", query_string=b"b=3"))[2] == b"5"


# -- what cannot be registered -----------------------------------------------------------------------------------------


def plain(ws: WebSocket) -> None: ...


async def generator(ws: WebSocket) -> AsyncIterator[int]:
    yield 1


async def nothing() -> None: ...


async def id_wanted(ws: WebSocket, id: int) -> None: ...


async def positional(ws: WebSocket, id: int, /) -> None: ...


async def keyword(*, ws: WebSocket) -> None: ...


class NoHandle(Endpoint): ...


class PlainHandle(Endpoint):
    def handle(self, ws: WebSocket) -> None: ...  # type: ignore[override]


class PlainAuthorize(Endpoint):
    def authorize(self, request: Request) -> None: ...  # type: ignore[override]

    async def handle(self, ws: WebSocket) -> None: ...


class WantsMore(Endpoint):
    async def handle(self, ws: WebSocket, name: str) -> None: ...


@pytest.mark.parametrize(
    ("path", "endpoint", "why"),
    [
        ("/", plain, "plain must be an async def"),
        ("/", lambda ws: None, "must be an async def"),
        ("/", generator, "generator must be an async def"),
        ("/", nothing, "nothing takes the connection.*too many positional"),
        ("/", id_wanted, "id_wanted takes .*'id'"),
        ("/{id:int}", positional, "positional takes .*'id'"),
        ("/", keyword, "keyword takes the connection"),
        ("/", object, "must be a subclass of fairlead.Endpoint"),
        ("/", NoHandle, r"NoHandle has no handle\(self, ws\)"),
        ("/", PlainHandle, "PlainHandle must be an async def"),
        ("/", PlainAuthorize, "guard tests.test_routing.PlainAuthorize.authorize must be an async def"),
        ("/", WantsMore, "WantsMore.handle takes .*'name'"),
        ("no-slash", tell, "must begin with a slash"),
        ("/{a:number}", tell, "no converter 'number'"),
        ("/{a}/{a}", tell, "stands there twice"),
    ],
)
async def test_what_could_not_work_is_refused_when_it_is_registered(
    router: Router, path: str, endpoint: Any, why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        router.websocket(path)(endpoint)
    assert router.routes == []


def plain_guard(request: Request) -> None: ...


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: WebSocketRoute("/", tell, guards=[plain_guard]), "^guard .*plain_guard must be an async def"),  # type: ignore[list-item]
    (lambda: Router(guards=[plain_guard]), "^guard .*plain_guard must be an async def"),  # type: ignore[list-item]
    (lambda: Router(allowed_origins="https://a.test"), "is a list of origins"),
    (lambda: Router(allowed_origins=["a.test"]), "'a.test' is not an origin"),
    (lambda: WebSocketRoute("/", tell, allowed_origins=["https://a.test/"]), "is not an origin"),
    (lambda: Router(prefix="x"), "prefix 'x' must begin with a slash"),
    (lambda: Router(prefix="/x/"), "prefix '/x/' must begin with a slash and not end with one"),
    (lambda: Router().include(Router(), "/x/"), "prefix '/x/'"),
    (lambda: Router(unmatched="ignore"), "'404' or 'close', not 'ignore'"),  # type: ignore[arg-type]
    (
        lambda: Router([WebSocketRoute("/{a}", tell), WebSocketRoute("/{b}", tell)]),
        r"socket /\{b\} \(tests.routes.tell\) is there already: /\{a\} \(",
    ),
    (
        lambda: Router([Route("/a", page), Route("/a", page, methods=["GET", "POST"])]),
        r"^GET /a \(tests.routes.page\) is there already: /a \(",
    ),
    (lambda: Router().include(Router([Host("a.test", app=Router())])), "cannot be included"),
    (lambda: Router().include(Router([Mount("/m", app=Router())], guards=[noting([], "")])), "mount the router"),
    (lambda: Router().include(Router([Mount("/m", app=Router())], allowed_origins=[OTHER])), "mount the router"),
    (lambda: included_twice(), "socket /x/a .* is there already: /x/a"),
]


def included_twice() -> None:
    router, inner = Router(), Router([WebSocketRoute("/a", tell)])
    router.include(inner, "/x")
    router.include(inner, "/x")


@pytest.mark.parametrize(("make", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_contradicts_itself_is_refused_at_once(make: Callable[[], object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        make()


def test_what_does_not_hide_another_is_not_refused() -> None:
    routes: Sequence[Any] = [
        WebSocketRoute("/{a}", tell),
        WebSocketRoute("/{a:int}", tell),
        Route("/{a}", page),
        Route("/{a}", page, methods=["POST"]),
        Route("/h", page, methods=["HEAD"]),
        Route("/h", page),
        Mount("/a", app=Router()),
        Mount("/a", app=Router()),
    ]
    assert Router(routes).routes == routes


# -- the handler's end -------------------------------------------------------------------------------------------------


async def test_a_handler_that_fails_is_1011_and_logged(router: Router, caplog: pytest.LogCaptureFixture) -> None:
    @router.websocket("/a")
    async def fail(ws: WebSocket) -> None:
        raise ValueError("secret")

    with caplog.at_level(logging.INFO):
        async with connect(router, "/a") as client:
            assert await client.closed() == (1011, "")
    assert "ValueError: secret" in caplog.text


async def test_a_handler_learns_that_its_client_left(router: Router) -> None:
    ends: list[tuple[int, str]] = []

    @router.websocket("/a")
    async def wait(ws: WebSocket) -> None:
        try:
            await ws.receive()
        except Closed as closed:
            ends.append((closed.code, closed.reason))
            raise

    async with connect(router, "/a") as client:
        await client.close(3001, "bye")
    assert ends == [(3001, "bye")]
