"""What was said, and where."""

from __future__ import annotations

from django.conf import settings
from django.db import models

TEXT_LENGTH = 2000


class Message(models.Model):
    room = models.SlugField()
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
