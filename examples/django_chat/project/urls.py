"""Where everything is. Sockets stand beside pages."""

from chat import views
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from django.views.generic import RedirectView

from fairlead.django import browser_client

urlpatterns = [
    path("", RedirectView.as_view(url="/rooms/harbour/"), name="home"),
    path("signup/", views.sign_up, name="signup"),
    path("login/", LoginView.as_view(template_name="chat/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("rooms/<slug:name>/", views.page, name="room"),
    path("rooms/<slug:name>/messages/", views.messages, name="messages"),
    path("rooms/<slug:name>/talk/", views.talk, name="talk"),
    path("rooms/<slug:name>/typing/", views.typing, name="typing"),
    path("fairlead.js", browser_client, name="fairlead.js"),
]
