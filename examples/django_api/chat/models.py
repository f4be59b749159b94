"""Rooms, who may be in them, and what was said."""

from __future__ import annotations

from django.conf import settings
from django.db import models

TEXT_LENGTH = 2000


class Room(models.Model):
    name = models.CharField(max_length=80, unique=True)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="rooms")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @property
    def address(self) -> dict[str, int]:
        """This room as the gateway and its clients call it."""
        return {"room": self.pk}


class Message(models.Model):
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.CharField(max_length=TEXT_LENGTH)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text

    def as_json(self) -> dict[str, object]:
        """The same for those who ask for it over HTTP and those who are told at once."""
        return {"id": self.pk, "author": self.author.get_username(), "text": self.text, "at": self.at.isoformat()}
