"""Who may connect: guards, the Origin rule, and what a refusal looks like."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Host
from starlette.routing import Router as StarletteRouter
from starlette.routing import WebSocketRoute as StarletteWebSocketRoute
from starlette.websockets import WebSocket as StarletteWebSocket
from tests.routes import OTHER, OWN, App, noting, refused, refusing, saying, tell, told

from fairlead.guards import Guard
from fairlead.handshake import Reject, Request
from fairlead.routing import Endpoint, Router
from fairlead.testing import connect
from fairlead.websocket import WebSocket


@pytest.fixture
def router() -> Router:
    return Router()


# -- guards ------------------------------------------------------------------------------------------------------------


async def test_guards_are_asked_from_the_outermost_to_the_endpoints_own() -> None:
    log: list[str] = []

    class Last(Endpoint):
        async def authorize(self, request: Request) -> None:
            log.append("authorize")

        async def handle(self, ws: WebSocket) -> None:
            log.append("handle")

    inner = Router(prefix="/inner", guards=[noting(log, "inner 1"), noting(log, "inner 2")])
    inner.websocket("/end", guards=[noting(log, "route")])(Last)
    middle = Router(guards=[noting(log, "middle")])
    middle.include(inner, prefix="/middle")
    outer = Router(guards=[noting(log, "outer")])
    outer.mount("/mounted", middle)
    outer.include(middle)
    for path in ("/mounted/middle/inner/end", "/middle/inner/end"):
        log.clear()
        async with connect(outer, path) as client:
            await client.closed()
        assert log == ["outer", "middle", "inner 1", "inner 2", "route", "authorize", "handle"]


@pytest.mark.parametrize("raised", [True, False])
async def test_a_reject_is_the_answer_raised_or_returned(router: Router, raised: bool) -> None:
    reject = Reject(401, "log in\n", {"WWW-Authenticate": "Bearer"})

    async def guard(request: Request) -> Reject:
        if raised:
            raise reject
        return reject

    router.websocket("/a", guards=[guard])(tell)
    refusal = await refused(router, "/a", 401)
    assert (refusal.text, refusal.headers["www-authenticate"]) == ("log in\n", "Bearer")
    assert refusal.headers["content-type"] == "text/plain"


async def test_a_reject_has_all_its_headers_and_its_own_content_type(router: Router) -> None:
    pairs = [("Set-Cookie", "a=1"), (b"set-cookie", b"b=2"), ("Content-Type", "application/json")]
    router.websocket("/a", guards=[refusing(403, body=b"{}", headers=pairs)])(tell)
    refusal = await refused(router, "/a", 403)
    raw = refusal.headers._raw
    assert [value for name, value in raw if name == b"set-cookie"] == [b"a=1", b"b=2"]
    assert [value for name, value in raw if name == b"content-type"] == [b"application/json"]


async def test_starlettes_http_exception_is_an_answer_too(router: Router) -> None:
    async def guard(request: Request) -> None:
        raise HTTPException(429, "slow down", headers={"Retry-After": "3"})

    async def bare(request: Request) -> None:
        raise HTTPException(402)

    router.websocket("/a", guards=[guard])(tell)
    router.websocket("/b", guards=[bare])(tell)
    refusal = await refused(router, "/a", 429)
    assert (refusal.text, refusal.headers["retry-after"]) == ("slow down\n", "3")
    assert (await refused(router, "/b", 402)).text == "Payment Required\n"


async def test_a_guard_that_fails_refuses_and_only_the_log_says_why(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    async def guard(request: Request) -> None:
        raise ValueError("secret")

    router.websocket("/a", guards=[guard])(tell)
    refusal = await refused(router, "/a", 500)
    assert "secret" not in refusal.text + str(refusal.headers._raw)
    assert "ValueError: secret" in caplog.text and "'/a'" in caplog.text


@pytest.mark.parametrize("answer", [False, True, "no", (403, [], b"")])
async def test_an_answer_that_is_none_lets_nobody_in(router: Router, answer: Any) -> None:
    async def guard(request: Request) -> Any:
        return answer

    router.websocket("/a", guards=[guard])(tell)
    await refused(router, "/a", 500)


async def test_nothing_runs_after_a_refusal(router: Router) -> None:
    log: list[str] = []

    @router.websocket("/a", guards=[refusing(403), noting(log, "guard")])
    class Never(Endpoint):
        async def authorize(self, request: Request) -> None:
            log.append("authorize")

        async def handle(self, ws: WebSocket) -> None:
            log.append("handle")

    await refused(router, "/a", 403)
    assert log == []


async def test_guards_of_a_router_stand_before_a_foreign_application() -> None:
    log: list[str] = []

    async def foreign(ws: StarletteWebSocket) -> None:
        log.append("foreign")
        await ws.accept()
        await ws.send_json([ws.url.path, ws.state.user])
        await ws.close()

    async def login(request: Request) -> None:
        if request.headers.get("cookie") != "sid=1":
            raise Reject(401)
        request.state["user"] = "ann"

    router = Router(guards=[login])
    router.mount("/foreign", Starlette(routes=[StarletteWebSocketRoute("/x", foreign)]))
    router.routes.append(StarletteWebSocketRoute("/direct", foreign))
    router.routes.append(Host("h.test", app=StarletteRouter([StarletteWebSocketRoute("/host", foreign)])))
    for path, headers in (("/foreign/x", {}), ("/direct", {}), ("/host", {"Host": "h.test"})):
        await refused(router, path, 401, headers=headers)
        assert log == []
        assert await told(router, path, headers={**headers, "Cookie": "sid=1"}) == [path, "ann"]
        log.clear()
    await refused(router, "/foreign/x", 403, origin=OTHER, cookies={"sid": "1"})


async def test_what_guards_leave_the_handler_finds_and_theirs_is_one_request(router: Router) -> None:
    seen: list[Request] = []

    async def first(request: Request) -> None:
        seen.append(request)
        request.state["thing"] = thing
        assert request.params == {"id": 1}

    async def handler(ws: WebSocket) -> None:
        seen.append(ws.request)
        assert ws.state["thing"] is thing

    thing = object()
    inner = Router(guards=[first])
    inner.websocket("/{id:int}", guards=[first])(handler)
    router.guards = (first_outer(seen),)
    router.mount("/m", inner)
    async with connect(router, "/m/1") as client:
        assert await client.closed() == (1000, "")
    assert len(seen) == 4 and len(set(map(id, seen))) == 1


def first_outer(seen: list[Request]) -> Guard:
    async def guard(request: Request) -> None:
        seen.append(request)

    return guard


# -- Origin ------------------------------------------------------------------------------------------------------------


async def may(app: App, origin: str | None, path: str = "/a") -> bool:
    """Whether a page of that origin may connect."""
    try:
        async with connect(app, path, origin=origin):
            return True
    except Exception as exc:
        assert getattr(exc, "status", None) == 403, exc
        return False


async def test_without_a_rule_only_the_same_origin_may_connect(
    router: Router, caplog: pytest.LogCaptureFixture
) -> None:
    router.websocket("/a")(saying("hi"))
    assert [await may(router, origin) for origin in (None, OWN, OTHER, "null")] == [True, True, False, False]
    assert "neither the same origin nor in allowed_origins" in caplog.text


async def test_a_list_allows_more_and_a_star_turns_the_check_off() -> None:
    listed, off = Router(allowed_origins=["HTTPS://Other.test:443"]), Router(allowed_origins="*")
    for router in (listed, off):
        router.websocket("/a")(saying("hi"))
    origins = (None, OWN, OTHER, "https://third.test", "null")
    assert [await may(listed, origin) for origin in origins] == [True, True, True, False, False]
    assert [await may(off, origin) for origin in origins] == [True] * 5


async def test_a_routes_own_rule_goes_before_its_routers() -> None:
    router = Router(allowed_origins=[OTHER])
    router.websocket("/strict", allowed_origins=[])(saying("hi"))
    router.websocket("/third", allowed_origins=["https://third.test"])(saying("hi"))
    router.websocket("/off", allowed_origins=["*"])(saying("hi"))
    router.websocket("/routers")(saying("hi"))
    asked = [(path, await may(router, OTHER, path)) for path in ("/strict", "/third", "/off", "/routers")]
    assert asked == [("/strict", False), ("/third", False), ("/off", True), ("/routers", True)]
    assert await may(router, "https://third.test", "/third")


async def test_an_included_routers_rule_comes_along_and_the_outer_one_is_for_the_rest() -> None:
    inner = Router(allowed_origins=[OTHER])
    inner.websocket("/inner")(saying("hi"))
    inner.websocket("/own", allowed_origins=[])(saying("hi"))
    outer = Router(allowed_origins=["https://third.test"])
    outer.websocket("/outer")(saying("hi"))
    outer.include(inner)
    asked = [await may(outer, OTHER, path) for path in ("/inner", "/own", "/outer")]
    assert asked == [True, False, False]
    assert not await may(outer, "https://third.test", "/inner")


async def test_a_mounted_router_can_only_be_stricter() -> None:
    strict, same, loose = Router(allowed_origins=[]), Router(), Router(allowed_origins="*")
    outer = Router(allowed_origins=[OTHER])
    for path, inner in (("/strict", strict), ("/same", same), ("/loose", loose)):
        inner.websocket("/a")(saying("hi"))
        outer.mount(path, inner)
    asked = [await may(outer, OTHER, f"/{path}/a") for path in ("strict", "same", "loose")]
    assert asked == [False, True, True]
    assert not await may(outer, "https://third.test", "/loose/a")


async def test_the_origin_is_checked_before_any_guard_and_after_the_route(router: Router) -> None:
    log: list[str] = []
    router.guards = (noting(log, "router"),)
    router.websocket("/a", guards=[noting(log, "route")])(tell)
    assert not await may(router, OTHER)
    assert log == []
    await refused(router, "/nowhere", 404, origin=OTHER)
