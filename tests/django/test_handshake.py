"""Who is let in: host, Origin, URLconf, middleware and view, in that order; and how the others are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import include, path, reverse
from tests.django.site import opened, serving
from websockets.frames import Opcode

from fairlead.django import accept_websocket, require_websocket
from fairlead.django.handler import SocketRequest
from fairlead.testing import Rejected, RunningServer, rejects

HERE = "tests.django.test_handshake"


@require_websocket
def echo(request: Any) -> None:
    for message in request.websocket:
        request.websocket.send(message)


@require_websocket
async def echo_async(request: Any) -> None:
    async for message in request.websocket:
        await request.websocket.send(message)


both = pytest.mark.parametrize("view", [echo, echo_async], ids=["blocking", "async"])


async def refused(server: RunningServer, place: str, **options: Any) -> Rejected:
    with rejects() as refusal:
        async with server.connect(place, **options):
            pass
    return refusal.value


async def admitted(server: RunningServer, place: str, **options: Any) -> bool:
    try:
        async with server.connect(place, **options):
            return True
    except Rejected as refusal:
        assert (refusal.status, refusal.text) == (403, "origin not allowed\n")
        return False


# -- the request -------------------------------------------------------------------------------------------------------


@both
async def test_the_handshake_of_firefox_is_one(view: Any) -> None:
    async with serving(path("", view)) as server:
        firefox = ("Connection: Upgrade", "Connection: keep-alive, Upgrade")
        async with opened(server, "/", replace=firefox) as (raw, head):
            assert head.startswith(b"HTTP/1.1 101 ")
            raw.send_frame(Opcode.TEXT, b"hello")
            assert await raw.frame() == (Opcode.TEXT, b"hello")


@both
async def test_the_request_looks_like_a_get_of_the_page_it_stands_for(view: Any) -> None:
    seen: list[object] = []

    def looking(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def look(request: Any) -> Any:
            seen.extend([request.method, request.path, request.GET.dict(), request.is_secure()])
            seen.append(request.build_absolute_uri())
            return get_response(request)

        return look

    async with serving(path("room/café/", view), MIDDLEWARE=[middleware(looking)]) as server:
        async with server.connect("/room/caf%C3%A9/?q=1"):
            pass
    assert seen == ["GET", "/room/café/", {"q": "1"}, False, f"{server.url}/room/caf%C3%A9/?q=1"]


async def test_a_query_that_is_no_text_is_400() -> None:
    async with serving(path("", echo)) as server, opened(server, "/?q=\xff") as (_, head):
        assert head.startswith(b"HTTP/1.1 400 ")


async def test_a_host_that_is_not_ours_is_400_before_anything_runs(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(path("", fails), MIDDLEWARE=[]) as server:
        host = server.url.removeprefix("http://")
        async with opened(server, "/", "Origin: http://rebound.test", replace=(host, "rebound.test")) as (raw, head):
            assert head.startswith(b"HTTP/1.1 400 ")
            assert await raw.rest() == b"host not allowed\n"
    assert "rebound.test" in caplog.text


@require_websocket
def fails(request: Any) -> None:
    raise AssertionError("must not run")


# -- Origin ------------------------------------------------------------------------------------------------------------


@both
async def test_pages_of_the_same_host_may_connect_and_others_may_not(
    view: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(path("", view)) as server:
        assert await admitted(server, "/", origin=server.url)
        assert await admitted(server, "/")  # no browser
        for origin in ("http://127.0.0.1:1", "https://evil.example", "null", "http://127.0.0.1"):
            assert not await admitted(server, "/", origin=origin), origin
    assert "CSRF_TRUSTED_ORIGINS" in caplog.text


async def test_trusted_origins_may_connect_with_all_below_a_star() -> None:
    trusted = ["https://app.example.com", "https://*.example.net", "http://*.example.net:8080"]
    async with serving(path("", echo), CSRF_TRUSTED_ORIGINS=trusted) as server:
        for origin in (
            "https://app.example.com",
            "https://APP.example.com:443",
            "https://a.example.net",
            "https://a.b.example.net",
            "https://example.net",
            "http://a.example.net:8080",
        ):
            assert await admitted(server, "/", origin=origin), origin
        for origin in (
            "http://app.example.com",
            "https://b.app.example.com",
            "http://a.example.net",
            "https://evilexample.net",
            "https://a.example.net.evil.test",
            "https://a.example.net:8443",
            "http://a.example.net:443",
        ):
            assert not await admitted(server, "/", origin=origin), origin


async def test_further_origins_are_a_setting_and_a_star_alone_is_all_of_them() -> None:
    async with serving(path("", echo), FAIRLEAD={"allowed_origins": ["capacitor://localhost"]}) as server:
        assert await admitted(server, "/", origin="capacitor://localhost")
        assert not await admitted(server, "/", origin="https://evil.example")
    async with serving(path("", echo), FAIRLEAD={"allowed_origins": ["*"]}) as server:
        assert await admitted(server, "/", origin="https://evil.example")


async def test_behind_a_proxy_the_host_is_the_one_that_django_believes() -> None:
    forwarded = {"X-Forwarded-Host": "www.example.org"}
    async with serving(path("", echo)) as server:
        assert not await admitted(server, "/", headers=forwarded, origin="https://www.example.org")
    async with serving(path("", echo), USE_X_FORWARDED_HOST=True) as server:
        assert await admitted(server, "/", headers=forwarded, origin="https://www.example.org")
        assert not await admitted(server, "/", headers=forwarded, origin="https://example.org")


# -- the URLconf -------------------------------------------------------------------------------------------------------


async def test_a_path_without_a_view_is_404_and_one_without_its_slash_redirects() -> None:
    async with serving(path("echo/", echo)) as server:
        assert (await refused(server, "/nothing/")).status == 404
        answer = await refused(server, "/echo")
        assert (answer.status, answer.headers["location"]) == (301, "/echo/")


async def test_a_view_that_is_not_marked_never_runs_for_an_upgrade_request(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[str] = []

    def view(request: Any) -> HttpResponse:
        ran.append("view")
        return HttpResponse("secret page")

    async def view_async(request: Any) -> HttpResponse:
        return view(request)

    async with serving(path("a/", view), path("b/", view_async)) as server:
        for place in ("/a/", "/b/"):
            answer = await refused(server, place)
            assert (answer.status, answer.text) == (404, "no WebSocket here\n")
    assert not ran
    assert "/a/ takes no sockets: decorate its view with accept_websocket" in caplog.text


@both
async def test_a_middleware_may_choose_the_urlconf(view: Any) -> None:
    def choosing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def choose(request: Any) -> Any:
            request.urlconf = (path("other/", view),)
            return get_response(request)

        return choose

    async with serving(MIDDLEWARE=[middleware(choosing)]) as server, server.connect("/other/") as client:
        await client.send("x")
        assert await client.receive() == "x"


async def test_a_middleware_may_choose_a_blocking_view_where_an_async_one_was_to_be_expected() -> None:
    def choosing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def choose(request: Any) -> Any:
            request.urlconf = (path("", echo),)
            return get_response(request)

        return choose

    async with serving(path("", echo_async), MIDDLEWARE=[middleware(choosing)]) as server:
        async with server.connect("/") as client:
            await client.send("x")
            assert await client.receive() == "x"


async def test_a_middleware_that_changes_its_mind_is_500() -> None:
    views = iter([echo_async, echo])

    def choosing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def choose(request: Any) -> Any:
            request.urlconf = (path("", next(views)),)
            return get_response(request)

        return choose

    async with serving(MIDDLEWARE=[middleware(choosing)]) as server:
        assert (await refused(server, "/")).status == 500


async def test_views_under_a_prefix_and_in_a_namespace_are_found_and_find_others() -> None:
    @require_websocket
    def view(request: Any, number: int) -> None:
        request.websocket.send(reverse("inner:async", args=[number + 1]))

    @require_websocket
    async def view_async(request: Any, number: int) -> None:
        await request.websocket.send(reverse("inner:view", args=[number - 1]))

    inner = ([path("<int:number>/", view, name="view"), path("async/<int:number>/", view_async, name="async")], "inner")
    async with serving(path("site/", include(inner)), FORCE_SCRIPT_NAME="/app") as server:
        async with server.connect("/site/7/") as client:  # a proxy has taken the prefix off
            assert await client.receive() == "/app/site/async/8/"
        async with server.connect("/site/async/8/") as client:
            assert await client.receive() == "/app/site/7/"


def test_a_socket_over_tls_is_a_secure_request() -> None:
    scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"testserver")], "query_string": b""}
    assert SocketRequest({**scope, "scheme": "wss"}).is_secure()
    assert not SocketRequest({**scope, "scheme": "ws"}).is_secure()


# -- middleware --------------------------------------------------------------------------------------------------------


def middleware(factory: Any) -> str:
    """A middleware as the setting names it."""
    name = f"_{factory.__name__}"
    globals()[name] = factory
    return f"{HERE}.{name}"


@both
async def test_a_middleware_that_answers_refuses_with_its_status_headers_cookies_and_body(view: Any) -> None:
    def closing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def close(request: Any) -> Any:
            response = JsonResponse({"closed": "on Sundays"}, status=451)
            response["X-Reason"] = "sunday"
            response.set_cookie("seen", "1")
            response.set_cookie("often", "2")
            return response

        return close

    async with serving(path("", view), MIDDLEWARE=[middleware(closing)]) as server:
        answer = await refused(server, "/")
        assert (answer.status, answer.json()) == (451, {"closed": "on Sundays"})
        assert (answer.headers["x-reason"], answer.headers["content-type"]) == ("sunday", "application/json")
        async with opened(server, "/") as (_, head):
            assert head.lower().count(b"set-cookie: ") == 2
            assert head.lower().count(b"content-length: ") == 1


@both
async def test_a_middleware_that_fails_is_500_and_nothing_of_it_is_told(
    view: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def fail(request: Any) -> Any:
            raise ValueError("the secret")

        return fail

    async with serving(path("", view), MIDDLEWARE=[middleware(failing)]) as server:
        answer = await refused(server, "/")
    assert answer.status == 500 and "secret" not in answer.text
    assert "the secret" in caplog.text


@both
async def test_a_middleware_may_look_at_the_view_and_refuse_it(view: Any) -> None:
    seen: list[object] = []

    class Looking:
        sync_capable = async_capable = True

        def __init__(self, get_response: Callable[[Any], Any]) -> None:
            self.get_response = get_response
            from asgiref.sync import iscoroutinefunction, markcoroutinefunction

            if iscoroutinefunction(get_response):
                markcoroutinefunction(self)

        def __call__(self, request: Any) -> Any:
            return self.get_response(request)

        def process_view(self, request: Any, function: Any, args: Any, kwargs: Any) -> HttpResponse:
            seen.append((function.__name__, function.accept_websocket, kwargs))
            return HttpResponse("no", status=409)

    async with serving(path("<int:n>/", view), MIDDLEWARE=[middleware(Looking)]) as server:
        assert (await refused(server, "/7/")).status == 409
    assert seen == [(view.__name__, True, {"n": 7})]


async def test_async_views_behind_a_middleware_that_blocks_do_not_wait_for_each_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def blocking(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda request: get_response(request)

    async with serving(path("", echo_async), MIDDLEWARE=[middleware(blocking)]) as server:
        async with server.connect("/") as one, server.connect("/") as other:
            for client in (one, other, one):
                await client.send("x")
                assert await client.receive() == "x"
    assert "keeps a thread" in caplog.text


# -- views -------------------------------------------------------------------------------------------------------------


async def test_a_redirect_to_the_login_page_is_the_refusal(logged_in: dict[str, str]) -> None:
    async with serving(path("a/", login_required(echo)), path("b/", require_websocket(login_required(echo)))) as server:
        for place in ("/a/", "/b/"):
            answer = await refused(server, place)
            assert (answer.status, answer.headers["location"]) == (302, f"/login/?next={place}")
            async with server.connect(place, cookies=logged_in) as client:
                await client.send("x")
                assert await client.receive() == "x"


async def test_a_view_that_answers_without_the_socket_refuses_with_its_answer() -> None:
    answers = {"gone": HttpResponse("gone", status=410), "page": HttpResponse("a page")}

    @accept_websocket
    def view(request: Any, name: str) -> HttpResponse:
        return answers[name]

    @accept_websocket
    async def view_async(request: Any, name: str) -> HttpResponse:
        return answers[name]

    async with serving(path("a/<name>", view), path("b/<name>", view_async)) as server:
        for place in "ab":
            for name, response in answers.items():
                answer = await refused(server, f"/{place}/{name}")
                assert (answer.status, answer.body) == (response.status_code, response.content)


async def test_not_found_in_a_view_is_404_and_permission_denied_403() -> None:
    from django.core.exceptions import PermissionDenied

    @require_websocket
    def view(request: Any, kind: int) -> None:
        raise PermissionDenied if kind == 403 else Http404

    @require_websocket
    async def view_async(request: Any, kind: int) -> None:
        raise PermissionDenied if kind == 403 else Http404

    async with serving(path("a/<int:kind>", view), path("b/<int:kind>", view_async)) as server:
        for place in "ab":
            for status in (403, 404):
                assert (await refused(server, f"/{place}/{status}")).status == status


@pytest.mark.parametrize("place", ["/a", "/b"])
async def test_a_view_that_returns_nothing_and_never_used_its_socket_is_500(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    @require_websocket
    def view(request: Any) -> None:
        pass

    @require_websocket
    async def view_async(request: Any) -> None:
        pass

    async with serving(path("a", view), path("b", view_async)) as server:
        assert (await refused(server, place)).status == 500
    assert "didn't return an HttpResponse" in caplog.text


async def test_the_body_of_a_stream_is_not_waited_for() -> None:
    closed: list[str] = []

    def endless() -> Any:
        try:
            while True:
                yield b"x"
        finally:
            closed.append("yes")

    @accept_websocket
    def view(request: Any) -> StreamingHttpResponse:
        stream = endless()
        next(stream)
        return StreamingHttpResponse(stream, status=418)

    async with serving(path("", view)) as server:
        answer = await refused(server, "/")
    assert (answer.status, answer.body, closed) == (418, b"", ["yes"])


async def test_a_view_cannot_forge_the_101(caplog: pytest.LogCaptureFixture) -> None:
    @accept_websocket
    def view(request: Any) -> HttpResponse:
        return HttpResponse(status=101)

    async with serving(path("", view)) as server, opened(server, "/") as (_, head):
        assert head.startswith(b"HTTP/1.1 500 ")
    assert "use the socket instead" in caplog.text


async def test_a_decorator_that_is_not_made_for_coroutines_is_named(caplog: pytest.LogCaptureFixture) -> None:
    from functools import wraps

    def old(view: Any) -> Any:
        @wraps(view)
        def inner(request: Any) -> Any:
            return view(request)

        return inner

    async with serving(path("", old(echo_async))) as server:
        assert (await refused(server, "/")).status == 500
    assert "echo_async returned a coroutine: a decorator around it is not made for async def" in caplog.text


async def test_a_refusal_reaches_the_log_as_any_other_answer_does(caplog: pytest.LogCaptureFixture) -> None:
    @accept_websocket
    async def view(request: Any) -> HttpResponse:
        return HttpResponse(status=410)

    async with serving(path("gone/", view)) as server:
        await refused(server, "/gone/")
    assert "Gone: /gone/" in [record.getMessage() for record in caplog.records if record.name == "django.request"]


async def test_async_views_find_their_user(logged_in: dict[str, str]) -> None:
    @require_websocket
    async def view(request: Any) -> None:
        await request.websocket.send(await sync_to_async(lambda: request.user.username)())

    async with serving(path("", view)) as server, server.connect("/", cookies=logged_in) as client:
        assert await client.receive() == "ada"


async def test_a_redirect_stays_one_in_an_async_view() -> None:
    @require_websocket
    async def view(request: Any) -> HttpResponse:
        return HttpResponseRedirect("/login/")

    async with serving(path("", view)) as server:
        assert (await refused(server, "/")).headers["location"] == "/login/"
