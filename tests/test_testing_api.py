from __future__ import annotations

import asyncio

import aiohttp
import pytest

from fairlead.testing import FakeApi, TimedOut, reply
from fairlead.testing.api import Ask, cut, hang, reset
from fairlead.testing.portal import Portal


async def ask(url: str, **headers: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


async def test_the_script_comes_first_then_the_answer_for_the_one_who_asks_then_the_default() -> None:
    async with FakeApi() as api:
        api.script(reply(500))
        api.on(reply(201), cookie="sid=a")
        api.on(reply(202), token="t")
        api.on(reply(203), cookie="sid=a", token="t")
        assert await ask(api.url, Cookie="sid=a") == 500
        assert await ask(api.url, Cookie="x=y; sid=a") == 201
        assert await ask(api.url, Authorization="Token t") == 202
        assert await ask(api.url, Authorization="Bearer t", Cookie="sid=a; z=1") == 203
        assert await ask(api.url, Cookie="sid=ab") == 200
        api.on(reply(401), cookie="sid=a")
        assert await ask(api.url, Cookie="sid=a") == 401
        await api.asked(6)
        assert [each.cookies for each in api.requests][:2] == [["sid=a"], ["x=y", "sid=a"]]
        assert [each.token for each in api.requests] == [None, None, "t", "t", None, None]


async def test_faults_are_answers_too() -> None:
    async with FakeApi() as api:
        api.default = reset
        with pytest.raises(aiohttp.ClientError):
            await ask(api.url)
        api.script(cut(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"))
        async with aiohttp.ClientSession() as session, session.get(api.url) as answer:
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        await api.left()
        assert api.open == 0


async def test_a_wait_that_is_over_says_for_what() -> None:
    async with FakeApi() as api:
        with pytest.raises(TimedOut, match=r"waited 0\.01 s for request 1; there were 0 requests, and 0 conn"):
            await api.asked(1, timeout=0.01)


def test_it_serves_tests_without_async() -> None:
    with FakeApi() as api:
        api.default = reply(202)
        portal = Portal.enter()
        try:
            assert portal.call(ask(api.url)) == 202
        finally:
            Portal.leave()
        api.asked(1)
        api.left(0)
        assert api.requests[0].line == "GET /api/bootstrap/ HTTP/1.1"


def test_a_header_that_came_twice_is_no_value() -> None:
    twice = Ask(b"GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n", 1)
    assert twice.header("b") == "2"
    assert twice.header("c") is None
    assert twice.cookies == []
    with pytest.raises(ValueError, match="came 2 times"):
        twice.header("a")


async def test_its_end_ends_what_it_does() -> None:
    async with FakeApi() as api:
        api.default = hang
        asking = asyncio.ensure_future(ask(api.url))
        await api.asked(1)
    with pytest.raises(aiohttp.ClientError):
        await asking
