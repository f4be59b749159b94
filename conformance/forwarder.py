"""A port of this machine in front of a Unix socket, for programs that know only TCP."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future

CHUNK = 64 * 1024


@contextlib.contextmanager
def forwarding(uds: str) -> Iterator[int]:
    """Pass connections to a free port on to the Unix socket ``uds`` while the block lasts; gives the port."""
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_forward(uds, started)), daemon=True)
    thread.start()
    port, loop, over = started.result()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


async def _forward(uds: str, started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(uds)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        writer.close()
        far_writer.close()

    over = asyncio.Event()
    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    started.set_result((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), over))
    await over.wait()
    server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction and its end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
