"""The whole site: pages, and two sockets for each room.

``talk`` is a blocking view: it uses the database as any other view does. ``typing`` is an async one: it only passes on
what it is told, and a coroutine for each visitor costs less than a thread.
"""

from __future__ import annotations

from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from chat.models import TEXT_LENGTH, Message
from fairlead.django import publish_on_commit, require_websocket, room

PAGE_SIZE = 50
ROOMS = ["harbour", "bridge", "galley"]


def sign_up(request: HttpRequest) -> HttpResponse:
    form = UserCreationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        login(request, form.save())
        return redirect("home")
    return render(request, "chat/signup.html", {"form": form})


@login_required
def page(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, "chat/room.html", {"name": name, "rooms": ROOMS, "text_length": TEXT_LENGTH})


@login_required
@require_POST
def messages(request: HttpRequest, name: str) -> JsonResponse:
    """Say something without a socket, from a script for instance."""
    message = say(request, name, request.POST.get("text", ""))
    return JsonResponse({"error": "nothing was said"}, status=400) if message is None else JsonResponse(message)


@login_required
@require_websocket
def talk(request: HttpRequest, name: str) -> None:
    """A visitor's connection to a room: he says text, and hears what is said as JSON."""
    ws = request.websocket
    ws.join(address(name))
    # In this order nothing is missed in between. What comes both ways has the same id.
    for message in newest(name):
        ws.send_json(message.as_json())
    for text in ws:
        say(request, name, text)


@login_required
@require_websocket
async def typing(request: HttpRequest, name: str) -> None:
    """Tells the others in a room who is typing: each message means "I am"."""
    here, user = room({"typing": name}), await request.auser()
    await request.websocket.join(here)
    async for _ in request.websocket:
        await here.publish({"author": user.get_username()}, exclude=request.websocket)


def newest(name: str) -> list[Message]:
    messages = Message.objects.select_related("author").filter(room=name).order_by("-pk")
    return list(reversed(messages[:PAGE_SIZE]))


def say(request: HttpRequest, name: str, text: object) -> dict[str, object] | None:
    """Keep what somebody says, and tell everybody in the room."""
    if not isinstance(text, str) or not 0 < len(text.strip()) <= TEXT_LENGTH:
        return None
    message = Message.objects.create(room=name, author=request.user, text=text.strip()).as_json()
    publish_on_commit(address(name), message)
    return message


def address(name: str) -> dict[str, str]:
    return {"room": name}
