"""What the gateway and the page rely on. ``python manage.py test``"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from django.contrib.auth.models import User
from django.test import Client, TransactionTestCase, override_settings

from chat.models import Message, Room


class FakeGateway(HTTPServer):
    """Takes every call and remembers path, key and body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeGatewayHandler)
        self.calls: list[tuple[str, str | None, object]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


class FakeGatewayHandler(BaseHTTPRequestHandler):
    server: FakeGateway

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append((self.path, self.headers["Authorization"], body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class ChatTest(TransactionTestCase):
    def setUp(self) -> None:
        self.gateway = FakeGateway()
        self.addCleanup(self.gateway.server_close)
        self.addCleanup(self.gateway.shutdown)
        url = f"http://127.0.0.1:{self.gateway.server_port}"
        override = override_settings(FAIRLEAD_API_URL=url, FAIRLEAD_API_KEY="the key", ALLOWED_HOSTS=["testserver"])
        override.enable()
        self.addCleanup(override.disable)
        self.ada = User.objects.create_user("ada")
        self.grace = User.objects.create_user("grace")
        self.shared = Room.objects.create(name="Shared")
        self.shared.members.set([self.ada, self.grace])
        self.hers = Room.objects.create(name="Hers")
        self.hers.members.set([self.ada])

    def client_of(self, user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    def test_bootstrap_lists_the_rooms_of_the_user(self) -> None:
        answer = self.client_of(self.grace).get("/api/bootstrap/").json()
        self.assertEqual(answer, {"user": {"id": self.grace.pk}, "allowed_rooms": [{"room": self.shared.pk}]})

    def test_bootstrap_refuses_a_stranger(self) -> None:
        self.assertEqual(Client().get("/api/bootstrap/").status_code, 401)

    def test_a_message_is_saved_and_triggered(self) -> None:
        path = f"/rooms/{self.shared.pk}/messages/"
        answer = self.client_of(self.ada).post(path, {"text": " ahoy "})
        self.assertEqual(answer.status_code, 201)
        self.assertEqual(answer.json()["text"], "ahoy")
        self.assertEqual(
            self.gateway.calls,
            [("/trigger/", "Bearer the key", {"rooms": [{"room": self.shared.pk}], "data": answer.json()})],
        )
        self.assertEqual(self.client_of(self.grace).get(path).json(), {"messages": [answer.json()]})

    def test_a_message_is_saved_when_the_gateway_is_gone(self) -> None:
        with override_settings(FAIRLEAD_API_URL="http://127.0.0.1:1"), self.assertLogs("chat.gateway", "ERROR"):
            answer = self.client_of(self.ada).post(f"/rooms/{self.shared.pk}/messages/", {"text": "ahoy"})
        self.assertEqual(answer.status_code, 201)
        self.assertEqual(Message.objects.count(), 1)

    def test_an_empty_or_endless_message_is_refused(self) -> None:
        for text in ["", "  ", "x" * 2001]:
            answer = self.client_of(self.ada).post(f"/rooms/{self.shared.pk}/messages/", {"text": text})
            self.assertEqual(answer.status_code, 400)
        self.assertEqual((Message.objects.count(), self.gateway.calls), (0, []))

    def test_who_is_no_member_neither_reads_nor_writes(self) -> None:
        client = self.client_of(self.grace)
        path = f"/rooms/{self.hers.pk}/messages/"
        self.assertEqual((client.get(path).status_code, client.post(path, {"text": "x"}).status_code), (404, 404))

    def test_history_is_the_newest_messages_in_order(self) -> None:
        for number in range(60):
            Message.objects.create(room=self.shared, author=self.ada, text=str(number))
        answer = self.client_of(self.ada).get(f"/rooms/{self.shared.pk}/messages/").json()
        self.assertEqual([message["text"] for message in answer["messages"]], [str(n) for n in range(10, 60)])

    def test_a_form_from_elsewhere_is_refused(self) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(self.ada)
        answer = client.post(f"/rooms/{self.shared.pk}/messages/", {"text": "forged"})
        self.assertEqual((answer.status_code, Message.objects.count()), (403, 0))

    def test_logging_out_closes_the_sockets_of_a_session_that_is_gone(self) -> None:
        client = self.client_of(self.ada)
        self.assertRedirects(client.post("/logout/"), "/login/")
        self.assertEqual(self.gateway.calls, [("/disconnect", "Bearer the key", {"user": self.ada.pk})])
        self.assertEqual(client.get("/api/bootstrap/").status_code, 401)
        self.assertEqual(client.get("/logout/").status_code, 405)
