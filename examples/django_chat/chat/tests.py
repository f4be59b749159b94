"""What visitors rely on. ``python manage.py test``"""

from __future__ import annotations

import time
from unittest.mock import ANY

from django.contrib.auth.models import User
from django.test import Client, TestCase, TransactionTestCase

from chat.models import Message
from fairlead.django import room
from fairlead.django.testing import connect, cookies_of, running
from fairlead.testing import rejects

TALK = "/rooms/harbour/talk/"
TYPING = "/rooms/harbour/typing/"


def visitor(name: str) -> Client:
    """A browser in which somebody is logged in."""
    client = Client()
    client.force_login(User.objects.get_or_create(username=name)[0])
    return client


class RoomTest(TestCase):
    """In memory, and all in the test's own transaction."""

    def setUp(self) -> None:
        self.ada, self.grace = cookies_of(visitor("ada")), cookies_of(visitor("grace"))
        joan = User.objects.create_user("joan")
        self.said = Message.objects.create(room="harbour", author=joan, text="first").as_json()

    def test_what_one_says_all_in_the_room_hear_and_the_database_keeps(self) -> None:
        with connect(TALK, cookies=self.ada) as ada, connect(TALK, cookies=self.grace) as grace:
            self.assertEqual([ada.receive_json(), grace.receive_json()], [self.said, self.said])
            ada.send(" ahoy ")
            heard = grace.receive_json()
            self.assertEqual(heard, {"id": ANY, "author": "ada", "text": "ahoy", "at": ANY})
            self.assertEqual(ada.receive_json(), heard)
        with connect(TALK, cookies=self.ada) as ada:
            self.assertEqual([ada.receive_json(), ada.receive_json()], [self.said, heard])

    def test_other_rooms_hear_nothing(self) -> None:
        with connect(TALK, cookies=self.ada) as ada, connect("/rooms/bridge/talk/", cookies=self.grace) as grace:
            ada.receive()
            ada.send("ahoy")
            ada.receive()
            grace.send("quiet here")
            self.assertEqual(grace.receive_json()["text"], "quiet here")

    def test_nothing_and_too_much_is_not_said(self) -> None:
        with connect(TALK, cookies=self.ada) as ada:
            for text in ["", "  ", "x" * 2001, b"ahoy"]:
                ada.send(text)
            ada.send("ahoy")
            self.assertEqual([ada.receive_json()["text"], ada.receive_json()["text"]], ["first", "ahoy"])
        self.assertEqual(Message.objects.count(), 2)

    def test_the_others_see_who_is_typing(self) -> None:
        with connect(TYPING, cookies=self.ada) as ada, connect(TYPING, cookies=self.grace) as grace:
            while len(room({"typing": "harbour"})) < 2:  # both are let in before they are in the room
                time.sleep(0)
            ada.send("typing")
            self.assertEqual(grace.receive_json(), {"author": "ada"})
            grace.send("typing")
            self.assertEqual(ada.receive_json(), {"author": "grace"})

    def test_strangers_are_sent_to_the_login_page(self) -> None:
        for path in (TALK, TYPING):
            with rejects(302) as refusal, connect(path):
                pass
            self.assertEqual(refusal.headers["location"], f"/login/?next={path}")

    def test_pages_of_other_sites_stay_out(self) -> None:
        with rejects(403), connect(TALK, cookies=self.ada, origin="https://evil.example"):
            pass

    async def test_it_works_from_tests_that_are_coroutines(self) -> None:
        async with connect(TALK, cookies=self.ada) as ada, connect(TYPING, cookies=self.grace) as grace:
            await ada.send("ahoy")
            self.assertEqual([(await ada.receive_json())["text"] for _ in range(2)], ["first", "ahoy"])
            await grace.send("typing")
        self.assertEqual(await Message.objects.acount(), 2)


class SiteTest(TransactionTestCase):
    """On a socket of this machine, with real commits."""

    def test_a_message_that_came_over_http_is_heard_on_sockets(self) -> None:
        ada = visitor("ada")
        with running() as server, server.connect(TALK, cookies=cookies_of(ada), origin=server.url) as client:
            client.send("first")
            client.receive()
            said = ada.post("/rooms/harbour/messages/", {"text": "ahoy"}).json()
            self.assertEqual(client.receive_json(), said)
            self.assertEqual(ada.post("/rooms/harbour/messages/", {"text": " "}).status_code, 400)
            self.assertEqual(server.http("GET", TALK).status, 302)

    def test_pages_are_there_and_hold_the_browser_client(self) -> None:
        ada = visitor("ada")
        self.assertContains(ada.get("/", follow=True), 'data-talk="/rooms/harbour/talk/"')
        self.assertContains(ada.get("/fairlead.js"), "export function socket")

    def test_signing_up_logs_in(self) -> None:
        client = Client()
        form = {"username": "joan", "password1": "clarke-1917-", "password2": "clarke-1917-"}
        self.assertRedirects(client.post("/signup/", form), "/", target_status_code=302)
        with connect(TALK, cookies=cookies_of(client)) as joan:
            joan.send("ahoy")
            self.assertEqual(joan.receive_json()["author"], "joan")
