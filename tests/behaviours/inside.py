"""The same application in FastAPI: mounted as a whole, and its routes in FastAPI's own list."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, FastAPI
from tests.behaviours.application import app, rooms, router

MOUNTED = "/site"

mounted = FastAPI()
mounted.mount(MOUNTED, app)

listed = FastAPI()


@listed.post("/rooms/{room}")
async def publish(room: str, data: Annotated[object, Body()]) -> int:
    """FastAPI's own way to the rooms."""
    await rooms[room].publish(data)
    return len(rooms[room])


listed.router.routes += router.routes
