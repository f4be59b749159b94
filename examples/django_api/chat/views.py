"""The whole site: a page, its messages, logging out, and the answer that the gateway asks for."""

from __future__ import annotations

from functools import partial

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chat import gateway
from chat.models import TEXT_LENGTH, Message, Room

PAGE_SIZE = 50


@require_GET
def bootstrap(request: HttpRequest) -> JsonResponse:
    """Who is this, and which rooms may it join? The gateway asks with the browser's own cookies."""
    if not request.user.is_authenticated:
        return JsonResponse({"error": "log in first"}, status=401)
    rooms = [room.address for room in request.user.rooms.all()]
    return JsonResponse({"user": {"id": request.user.pk}, "allowed_rooms": rooms})


@require_GET
@login_required
def page(request: HttpRequest) -> HttpResponse:
    context = {"rooms": request.user.rooms.all(), "gateway": settings.FAIRLEAD_URL, "text_length": TEXT_LENGTH}
    return render(request, "chat/page.html", context)


@require_http_methods(["GET", "POST"])
def messages(request: HttpRequest, room_id: int) -> JsonResponse:
    """GET: the newest messages of a room, oldest first. POST: say something."""
    if not request.user.is_authenticated:
        return JsonResponse({"error": "log in first"}, status=401)
    room = get_object_or_404(request.user.rooms, pk=room_id)
    return say(request, room) if request.method == "POST" else history(room)


def history(room: Room) -> JsonResponse:
    newest = room.messages.select_related("author").order_by("-pk")[:PAGE_SIZE]
    return JsonResponse({"messages": [message.as_json() for message in reversed(newest)]})


def say(request: HttpRequest, room: Room) -> JsonResponse:
    text = request.POST.get("text", "").strip()
    if not 0 < len(text) <= TEXT_LENGTH:
        return JsonResponse({"error": f"a message has 1 to {TEXT_LENGTH} characters"}, status=400)
    with transaction.atomic():
        message = Message.objects.create(room=room, author=request.user, text=text)
        # After the commit, or a client could hear of a message that is then rolled back.
        transaction.on_commit(partial(gateway.trigger, [room.address], message.as_json()))
    return JsonResponse(message.as_json(), status=201)


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    user = request.user.pk
    logout(request)  # first: a browser whose socket is closed comes back at once, and the session must be gone by then
    if user is not None:
        gateway.disconnect(user)
    return redirect("login")
