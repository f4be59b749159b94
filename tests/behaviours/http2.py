"""A WebSocket client over HTTP/2 (RFC 8441): one connection, each socket a stream of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes

from fairlead.errors import CloseCode
from fairlead.handshake import Headers
from fairlead.testing.client import TIMEOUT, Client, Mailbox
from fairlead.testing.clock import come_to_rest
from fairlead.testing.errors import Rejected
from fairlead.testing.request import Asking, asking
from fairlead.wire.frames import Opcode, encode
from fairlead.wire.messages import Close, Failure, MessageReader, Ping, Pong, answer_payload, close_payload

WIDE = 1 << 30
"""Bytes that the whole connection may receive unread, so that a stream which nobody reads holds up no other."""


class Connection:
    """An HTTP/2 connection without TLS, begun without being asked (RFC 9113, 3.3)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.authority = "{}:{}".format(*writer.get_extra_info("peername"))
        self.willing = asyncio.Event()
        self.alive = True
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, Stream] = {}
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(WIDE)
        self.flush()
        self._reading = asyncio.create_task(self._read())

    def flush(self) -> None:
        """Write what the protocol has to say."""
        self._writer.write(self.h2.data_to_send())

    async def drained(self) -> None:
        """Wait until the system has taken most of it."""
        await self._writer.drain()

    def begin(self, stream: Stream, fields: list[tuple[str, str]]) -> int:
        """Send a request; its number, under which the stream gets its events from now on."""
        number = self.h2.get_next_available_stream_id()
        self._streams[number] = stream
        self.h2.send_headers(number, fields)
        self.flush()
        return number

    @asynccontextmanager
    async def connect(self, path: str, **options: Any) -> AsyncIterator[Client]:
        """A client on a stream of its own, until the block ends; ``options`` as for ``fairlead.testing.connect``."""
        stream = Stream(self)
        try:
            async with asyncio.timeout(TIMEOUT):
                await stream.open(asking(path, **options))
            client = Client(stream)
            yield client
            await client.close()
        finally:
            stream.abort()

    async def end(self) -> None:
        """Drop the connection."""
        self._writer.transport.abort()
        await self._reading

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(1 << 16):
                for event in self.h2.receive_data(data):
                    self._dispatch(event)
                self.flush()
        except ConnectionError:
            pass
        finally:
            self.alive = False
            for stream in self._streams.values():
                stream.event(None)

    def _dispatch(self, event: Any) -> None:
        if isinstance(event, RemoteSettingsChanged):
            setting = event.changed_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
            if setting is not None and setting.new_value == 1:
                self.willing.set()
        number = getattr(event, "stream_id", None)
        for each in list(self._streams.values()) if not number else [self._streams[number]]:
            each.event(event)


class Stream:
    """A client's end on one stream; see ``fairlead.testing.client.Peer``."""

    def __init__(self, connection: Connection) -> None:
        self.mailbox = Mailbox()
        self.subprotocol: str | None = None
        self.headers = Headers(())
        self._connection = connection
        self._h2 = connection.h2
        self._number = 0
        self._messages = MessageReader(message_size=1 << 30, fragment_count=1 << 20, client=True)
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._body = b""
        self._writable = asyncio.Event()
        self._ponged = asyncio.Event()
        self._turn = asyncio.Lock()  # one frame after the other
        self._paused = False
        self._unread: list[DataReceived] = []
        self._closing = False

    # -- the handshake -----------------------------------------------------------------------------------------------

    async def open(self, asked: Asking) -> None:
        """Ask. Raises Rejected."""
        await self._connection.willing.wait()  # RFC 8441, 3: not before the server has said that it can
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", asked.target),
            (":authority", self._connection.authority),
            ("sec-websocket-version", "13"),
            *((name.lower(), value) for name, value in asked.headers),
        ]
        if asked.subprotocols:
            fields.append(("sec-websocket-protocol", ", ".join(asked.subprotocols)))
        self._number = self._connection.begin(self, fields)
        status = await self._answer
        if status != 200:
            await self.mailbox.over()
            raise Rejected(status, self.headers, self._body)

    def _answered(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self.headers = Headers(list(fields))
        self.subprotocol = self.headers.get("sec-websocket-protocol")
        self._answer.set_result(int(self.headers[":status"]))

    # -- what arrives ------------------------------------------------------------------------------------------------

    def event(self, event: Any) -> None:
        """What happened on this stream, or to all; None: the connection is lost."""
        match event:
            case ResponseReceived():
                self._answered(event.headers)
            case DataReceived() if self._paused:
                self._unread.append(event)
            case DataReceived():
                self._data(event)
            case WindowUpdated() | RemoteSettingsChanged():
                self._writable.set()
            case StreamEnded() | StreamReset() | None:
                self._lost()

    def _lost(self) -> None:
        self.mailbox.closed(CloseCode.ABNORMAL, "")
        self._writable.set()
        self._ponged.set()
        if not self._answer.done():
            self._answer.set_result(0)

    def _data(self, event: DataReceived) -> None:
        if self._open:
            self._h2.acknowledge_received_data(event.flow_controlled_length, self._number)
        if self._answer.result() != 200:
            self._body += event.data
            return
        for each in self._messages.feed(event.data):
            match each:
                case Ping(payload):
                    self._answer_with(Opcode.PONG, payload)
                case Pong():
                    self._ponged.set()
                case Close(code, reason):
                    if not self._closing:
                        self._answer_with(Opcode.CLOSE, answer_payload(code))
                    self.mailbox.closed(code, reason)
                case Failure(code, reason):
                    raise AssertionError(f"the server broke the protocol: {reason}")
                case str() | bytes():
                    self.mailbox.received(each)

    # -- what is sent ------------------------------------------------------------------------------------------------

    @property
    def _open(self) -> bool:
        return self.mailbox.closure is None

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._frame(Opcode.TEXT, message.encode())
        else:
            await self._frame(Opcode.BINARY, message)

    async def close(self, code: int, reason: str) -> None:
        self._closing = True
        await self._frame(Opcode.CLOSE, close_payload(code, reason))

    def _answer_with(self, opcode: Opcode, payload: bytes) -> None:
        """A control frame, at once, unless it would come in the middle of another frame."""
        if self._writing and not self._turn.locked():
            self._h2.send_data(self._number, encode(opcode, payload, mask=os.urandom(4)))

    async def _frame(self, opcode: Opcode, payload: bytes) -> None:
        """One WebSocket frame, in as many HTTP/2 frames as the server's window allows."""
        data = encode(opcode, payload, mask=os.urandom(4))
        async with self._turn:
            while data and self._writing:
                room = min(self._h2.local_flow_control_window(self._number), self._h2.max_outbound_frame_size)
                if room == 0:
                    self._writable.clear()
                    await self._writable.wait()
                    continue
                piece, data = data[:room], data[room:]
                self._h2.send_data(self._number, piece)
                self._connection.flush()
                await self._connection.drained()

    @property
    def _writing(self) -> bool:
        state = self._h2.streams.get(self._number)
        return self._connection.alive and state is not None and state.open

    def abort(self) -> None:
        if self._writing:
            self._h2.reset_stream(self._number, ErrorCodes.CANCEL)
            self._connection.flush()
        self._lost()

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        while self._unread and not self._paused:
            self._data(self._unread.pop(0))
        self._connection.flush()

    async def settle(self) -> None:
        for _ in range(2):
            self._ponged.clear()
            await self._frame(Opcode.PING, b"")
            await self._ponged.wait()
            await come_to_rest()


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[Connection]:
    """A connection to a server of this machine, until the block ends."""
    opened = Connection(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield opened
    finally:
        await opened.end()
