"""The test client inside Django's own test classes, with a database in a file; the example's have one in memory."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import TestCase, TransactionTestCase, override_settings
from django.urls import path

from fairlead.django import accept_websocket, publish_on_commit, require_websocket, room
from fairlead.django.databases import is_lent
from fairlead.django.testing import connect, cookies_of, running
from fairlead.testing import FakeClock, rejects

pytestmark = pytest.mark.usefixtures("database")


@require_websocket
def saves(request: Any) -> None:
    """Each message is the name of a user, who is saved; "undo:" before it, and he is not after all."""
    for name in request.websocket:
        with transaction.atomic():
            publish_on_commit("users", f"{name} is here")
            User.objects.create_user(name.removeprefix("undo:"))
            transaction.set_rollback(name.startswith("undo:"))
        request.websocket.send(str(User.objects.count()))


@require_websocket
async def counts(request: Any) -> None:
    await request.websocket.join("users")
    async for _ in request.websocket:
        await request.websocket.send(str(await User.objects.acount()))


@require_websocket
async def saves_async(request: Any) -> None:
    """As ``saves``."""

    def save(name: str) -> None:
        publish_on_commit("users", f"{name} is here")
        User.objects.create_user(name)

    async for name in request.websocket:
        await sync_to_async(save)(name)


@require_websocket
def hesitates(request: Any) -> None:
    """Waits in the middle of a transaction."""
    with transaction.atomic():
        publish_on_commit("users", "committed")
        request.websocket.wait()
        room("users").publish("not yet")
        request.websocket.wait()
    request.websocket.wait()


@require_websocket
def joins(request: Any) -> None:
    request.websocket.join("users")
    request.websocket.send(request.user.username)
    request.websocket.wait()


@accept_websocket
def page(request: Any) -> HttpResponse | None:
    if request.is_websocket():
        request.websocket.send(str(User.objects.count()))
        return None
    return HttpResponse(User.objects.count())


URLS = (
    path("saves/", saves),
    path("counts/", counts),
    path("joins/", joins),
    path("page/", page),
    *(path(f"{view.__name__}/", view) for view in (saves_async, hesitates)),
)


@override_settings(ROOT_URLCONF=URLS)
class InMemoryTest(TestCase):  # type: ignore[misc]  # Django has no types
    def setUp(self) -> None:
        self.joan = User.objects.create_user("joan")
        self.before = User.objects.count()

    def tearDown(self) -> None:
        assert not is_lent()
        connections["default"].validate_thread_sharing()

    def test_views_see_what_the_test_has_saved_and_the_test_what_they_save(self) -> None:
        with connect("/saves/") as client:
            client.send("grace")
            assert client.receive() == str(self.before + 1)
        assert User.objects.filter(username="grace").exists()

    def test_async_views_do_so_too(self) -> None:
        with connect("/counts/") as client:
            for _ in range(2):
                client.send("count")
                assert client.receive() == str(self.before)

    def test_nothing_of_another_test_is_left(self) -> None:
        assert not User.objects.filter(username="grace").exists()

    def test_who_is_logged_in_in_the_test_client_is_so_here(self) -> None:
        self.client.force_login(self.joan)
        with connect("/joins/", cookies=cookies_of(self.client)) as client:
            assert client.receive() == "joan"

    def test_what_waits_for_a_commit_comes_when_the_view_is_done_and_not_after_a_rollback(self) -> None:
        self.client.force_login(self.joan)
        with connect("/joins/", cookies=cookies_of(self.client)) as listener, connect("/saves/") as client:
            assert listener.receive() == "joan"
            for name in ("undo:grace", "hedy"):
                client.send(name)
                client.receive()
            assert listener.receive() == "hedy is here"

    def test_what_waits_for_a_commit_does_not_come_before_it(self) -> None:
        self.client.force_login(self.joan)
        with connect("/joins/", cookies=cookies_of(self.client)) as listener, connect("/hesitates/") as client:
            assert listener.receive() == "joan"
            client.send("go on")
            assert listener.receive() == "not yet"
            client.send("go on")
            assert listener.receive() == "committed"

    def test_what_the_test_itself_wants_after_a_commit_stays_its_own(self) -> None:
        ran: list[str] = []
        transaction.on_commit(lambda: ran.append("the test's"))
        with connect("/saves/") as client:
            client.send("grace")
            client.receive()
        assert not ran

    def test_the_test_publishes_by_itself(self) -> None:
        self.client.force_login(self.joan)
        with connect("/joins/", cookies=cookies_of(self.client)) as client:
            assert client.receive() == "joan"
            room("users").publish({"from": "the test"})
            assert client.receive_json() == {"from": "the test"}

    def test_a_refusal_is_one_of_the_test_clients(self) -> None:
        with rejects(404), connect("/nothing/"):
            pass
        with rejects(403), connect("/saves/", origin="https://evil.example"):
            pass
        with connect("/saves/", origin="http://testserver"):
            pass

    def test_two_clients_may_leave_in_any_order(self) -> None:
        first, second = connect("/saves/"), connect("/saves/")
        one, other = first.__enter__(), second.__enter__()
        one.send("grace")
        one.receive()
        first.__exit__(None, None, None)
        other.send("hedy")
        assert other.receive() == str(self.before + 2)
        second.__exit__(None, None, None)

    def test_time_can_be_turned(self) -> None:
        clock = FakeClock()
        with connect("/counts/", clock=clock) as client:
            client.pause_reading()
            clock.advance(46)
            assert client.closed().code == 1006

    def test_a_test_that_fails_inside_leaves_nothing_lent(self) -> None:
        with pytest.raises(ZeroDivisionError), connect("/saves/"):
            raise ZeroDivisionError

    async def test_what_waits_for_a_commit_comes_in_tests_that_are_coroutines_too(self) -> None:
        await sync_to_async(self.client.force_login)(self.joan)
        async with connect("/joins/", cookies=cookies_of(self.client)) as listener:
            assert await listener.receive() == "joan"
            async with connect("/saves_async/") as client:
                await client.send("grace")
                assert await listener.receive() == "grace is here"

    async def test_tests_that_are_coroutines_see_the_same_database(self) -> None:
        await User.objects.acreate(username="grace")
        async with connect("/saves/") as client, connect("/counts/") as counter:
            await client.send("hedy")
            assert await client.receive() == str(self.before + 2)
            await counter.send("count")
            assert {await counter.receive(), await counter.receive()} == {"hedy is here", str(self.before + 2)}
        assert await User.objects.filter(username="hedy").aexists()


@override_settings(ROOT_URLCONF=URLS)
class OnASocketTest(TransactionTestCase):  # type: ignore[misc]
    def setUp(self) -> None:
        User.objects.all().delete()

    def test_sockets_and_pages_of_a_real_server_see_what_is_committed(self) -> None:
        with running() as server, server.connect("/saves/", origin=server.url) as client:
            client.send("grace")
            assert client.receive() == "1"
            assert server.http("GET", "/page/").text == "1"
        assert User.objects.count() == 1

    def test_nothing_is_lent_where_every_thread_can_have_a_connection_of_its_own(self) -> None:
        with running():
            assert not is_lent()

    async def test_from_tests_that_are_coroutines_too(self) -> None:
        async with running() as server, server.connect("/page/") as client:
            assert await client.receive() == "0"

    def test_limits_can_be_set(self) -> None:
        from fairlead import Limits

        with running(limits=Limits(message_size=4)) as server, server.connect("/counts/") as client:
            client.send("12345")
            assert client.closed().code == 1009


@pytest.fixture(autouse=True, scope="module")
def users_are_put_back(ada: Any) -> Any:
    """A TransactionTestCase empties the tables when it is done."""
    yield
    ada.save(force_insert=True)
    connections.close_all()
