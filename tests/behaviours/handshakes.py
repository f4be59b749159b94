"""Handshakes: who is let in, what the handler knows of it, and what is said to who is not."""

from __future__ import annotations

import asyncio

from tests.behaviours.application import LISTED
from tests.behaviours.behaviour import expect
from tests.behaviours.hosts import Site, new_key, refused, seen, tell
from websockets.exceptions import InvalidMessage

from fairlead.testing import Rejected


async def told(site: Site, **options: object) -> dict[str, str]:
    """What a handler knows of the request."""
    async with site.connect("/request", **options) as client:
        known: dict[str, str] = await client.receive_json()
        return known


async def refusal(site: Site, path: str, **options: object) -> tuple[int, str]:
    """Status and body of a refusal."""
    rejected = await refused(site, path, **options)
    return rejected.status, rejected.text


async def let_in(site: Site, path: str, origin: str) -> str:
    """What a page of some origin gets."""
    try:
        async with site.connect(path, origin=origin) as client:
            return await client.receive_text()
    except Rejected as rejected:
        return f"HTTP {rejected.status}"


# -- what the handler knows --------------------------------------------------------------------------------------------


@expect([7, "Fähre 1", "a/b"])
async def parameters_of_the_path_are_decoded_and_typed(site: Site) -> object:
    async with site.connect("/params/7/F%C3%A4hre%201/a/b") as client:
        return await client.receive_json()


@expect({"a": "1 ü", "b": ""})
async def the_query_is_decoded_and_the_first_value_counts(site: Site) -> object:
    return (await told(site, query="a=1+%C3%BC&a=2&b="))["query"]


@expect({"sid": "x", "b": "2"})
async def cookies_reach_the_handler(site: Site) -> object:
    return (await told(site, cookies={"sid": "x", "b": "2"}))["cookies"]


@expect("me")
async def headers_reach_the_handler(site: Site) -> object:
    return (await told(site, headers={"X-Agent": "me"}))["agent"]


@expect(["1", "2"])
async def repeated_headers_reach_the_handler_in_order(site: Site) -> object:
    many = (await told(site, headers=[("X-Many", "1"), ("X-Many", "2")]))["many"]
    return [value.strip() for value in many.split(",")]  # in one line or in two: RFC 9110, 5.3


@expect(["ws", "127.0.0.1", "/request"])
async def scheme_address_and_path_reach_the_handler(site: Site) -> object:
    known = await told(site)
    return [known["scheme"], known["address"], known["path"]]


# -- what the handshake says -------------------------------------------------------------------------------------------


@expect(["v2", "v2"])
async def the_first_subprotocol_of_ours_that_is_offered_is_agreed_on(site: Site) -> object:
    async with site.connect("/spoken", subprotocols=["v0", "v1", "v2"]) as client:
        return [client.subprotocol, await client.receive_json()]


@expect([None, None])
async def without_a_common_subprotocol_there_is_none(site: Site) -> object:
    async with site.connect("/spoken", subprotocols=["v0"]) as client:
        return [client.subprotocol, await client.receive_json()]


@expect("yes")
async def headers_of_the_accept_reach_the_client(site: Site) -> object:
    async with site.connect("/cookies") as client:
        return client.headers.get("x-accepted")


# -- refusals ----------------------------------------------------------------------------------------------------------


@expect((401, "log in first\n"))
async def a_guard_refuses_with_status_and_body(site: Site) -> object:
    return await refusal(site, "/refused")


@expect("Bearer")
async def a_guard_refuses_with_headers(site: Site) -> object:
    return (await refused(site, "/refused")).headers.get("www-authenticate")


@expect("a=1")
async def a_refusal_may_repeat_a_header(site: Site) -> object:
    try:
        return (await refused(site, "/refused/with-cookies")).headers.get("set-cookie")
    except InvalidMessage:
        return "no answer"


@expect((409, "taken\n", "http"))
async def a_guard_may_raise_starlettes_exception(site: Site) -> object:
    rejected = await refused(site, "/refused/as-http")
    return rejected.status, rejected.text, rejected.headers.get("x-why")


@expect((500, "internal server error\n"))
async def a_guard_that_fails_refuses_and_says_nothing(site: Site) -> object:
    return await refusal(site, "/refused/by-failure")


@expect(["adam", "first", "second", "authorize"])
async def guards_are_asked_in_order_and_their_state_reaches_the_handler(site: Site) -> object:
    async with site.connect("/guarded/adam") as client:
        return await client.receive_json()


@expect((403, "not you\n"))
async def an_endpoint_refuses_for_itself(site: Site) -> object:
    return await refusal(site, "/guarded/eve")


@expect("at last")
async def a_guard_may_take_its_time(site: Site) -> object:
    key = new_key()

    async def connecting() -> str:
        async with site.connect("/hesitant", query={"key": key}) as client:
            return await client.receive_text()

    client = asyncio.create_task(connecting())
    await seen(site, key)
    await tell(site, key)
    return await client


@expect("at last")
async def a_client_that_leaves_before_the_verdict_disturbs_nobody(site: Site) -> object:
    key = new_key()
    hasty = asyncio.create_task(refused(site, "/hesitant", query={"key": key}))
    await seen(site, key)
    hasty.cancel()
    await tell(site, key)
    await asyncio.wait((hasty,))
    return await a_guard_may_take_its_time(site)


# -- origins -----------------------------------------------------------------------------------------------------------


@expect((403, "origin not allowed\n"))
async def a_page_of_another_origin_is_refused(site: Site) -> object:
    return await refusal(site, "/origin", origin="https://evil.example")


@expect("let in")
async def a_page_of_the_same_origin_is_let_in(site: Site) -> object:
    return await let_in(site, "/origin", site.origin)


@expect(["let in", "HTTP 403"])
async def a_listed_origin_is_let_in_where_it_is_listed(site: Site) -> object:
    return [await let_in(site, path, LISTED) for path in ("/origin/listed", "/origin")]


@expect("let in")
async def any_origin_is_let_in_where_the_check_is_off(site: Site) -> object:
    return await let_in(site, "/origin/any", "https://evil.example")


# -- paths -------------------------------------------------------------------------------------------------------------


@expect((404, "not found\n"))
async def a_path_without_a_route_is_not_found(site: Site) -> object:
    return await refusal(site, "/nowhere")


@expect(404)
async def a_parameter_of_another_type_is_not_found(site: Site) -> object:
    return (await refused(site, "/params/seven/a/b")).status


@expect((4040, ""))
async def or_the_client_is_let_in_and_closed(site: Site) -> object:
    async with site.connect("/elsewhere/nowhere") as client:
        return tuple(await client.closed())


@expect((426, "websocket"))
async def a_plain_request_to_a_socket_is_told_to_upgrade(site: Site) -> object:
    answer = await site.http.get("echo")
    return answer.status_code, answer.headers.get("upgrade")


@expect(["a socket", "a page"])
async def a_socket_and_a_page_share_a_path(site: Site) -> object:
    async with site.connect("/both") as client:
        return [await client.receive_text(), (await site.http.get("both")).text]
