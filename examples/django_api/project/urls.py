"""Where everything is. ``/static/`` is served by Django here; a real site leaves that to its web server."""

from pathlib import Path

from chat import views
from django.contrib.auth.views import LoginView
from django.urls import path
from django.views.static import serve

STATIC = Path(views.__file__).parent / "static"

urlpatterns = [
    path("", views.page, name="page"),
    path("login/", LoginView.as_view(template_name="chat/login.html", redirect_authenticated_user=True), name="login"),
    path("logout/", views.log_out, name="logout"),
    path("rooms/<int:room_id>/messages/", views.messages, name="messages"),
    path("api/bootstrap/", views.bootstrap, name="bootstrap"),
    path("static/<path:path>", serve, {"document_root": STATIC}, name="static"),
]
