"""An application's lifespan where all there is to start are its rooms."""

from __future__ import annotations

from fairlead.errors import FairleadError
from fairlead.rooms.room import Rooms
from fairlead.transports.asgi import Receive, Send


async def keep(rooms: Rooms, receive: Receive, send: Send) -> None:
    """Answer a lifespan (ASGI Lifespan Protocol, 2.0): the rooms start and end with the server.

    Where they cannot start, the server is told why, and does not start either.
    """
    await receive()  # lifespan.startup
    try:
        await rooms.start()
    except FairleadError as exc:
        await send({"type": "lifespan.startup.failed", "message": str(exc)})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown
    await rooms.close()
    await send({"type": "lifespan.shutdown.complete"})
