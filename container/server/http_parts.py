"""A connection that parses what arrives in small parts, so that no connection holds much or delays the others.

uvicorn gives everything that has arrived to the parser at once: 256 kB can be 12,000 requests, each of which takes
memory until its turn, and half a second in which no other connection is read. Here a connection parses a small part at
a time. It stops when a request has to wait for the one before, and lets others run after PARSE_SECONDS. The rest stays
as bytes, and the connection is not read until these are parsed.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PART_BYTES = 512  # an ordinary head is one part
PARSE_SECONDS = 0.0001  # of one connection, until others have their turn


class HeldFlow(FlowControl):
    """Flow control that does not resume reading while bytes are held; a request that reads its body would."""

    def __init__(self, transport: asyncio.Transport, is_holding: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._is_holding = is_holding

    def resume_reading(self) -> None:
        if not self._is_holding():
            super().resume_reading()


class PartsProtocol(HttpToolsProtocol):
    """An HTTP/1.1 connection that parses small parts; subclasses extend `parse`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._held = b""  # has arrived and is not parsed yet
        self._is_holding = False  # and therefore not reading
        self._body_left = 0  # bytes of the body that is arriving, if it has a length
        self._has_ended = False  # the client sends nothing more

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = HeldFlow(transport, lambda: bool(self._held))

    def connection_lost(self, exc: Exception | None) -> None:
        self._held = b""
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_empty = not self._held
        self._held += data
        if was_empty:
            self._parse_held()

    def parse(self, part: bytes) -> None:
        """Give a part to the parser."""
        super().data_received(part)

    def hold(self) -> None:
        """Stop reading until the bytes that are held are parsed; subclasses extend it."""
        self._is_holding = True
        self.flow.pause_reading()

    def is_response_pending(self) -> bool:
        """Return whether the newest request has arrived completely and has no complete response yet."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection of a client that has finished sending until its responses are sent; uvicorn would not."""
        self._has_ended = True
        return bool(self._held) or self._is_last_response_pending()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._body_left = next((int(value) for name, value in self.headers if name == b"content-length"), 0)

    def on_body(self, body: bytes) -> None:
        self._body_left -= len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._held and not self.pipeline:
            self.loop.call_soon(self._parse_held)

    def _parse_held(self) -> None:
        """Parse until a request has to wait, or others should have their turn; a body with a length is one part."""
        data, at, ends = self._held, 0, time.perf_counter() + PARSE_SECONDS
        while at < len(data) and not self._must_wait() and (at == 0 or time.perf_counter() < ends):
            size = max(PART_BYTES, self._body_left)
            self.parse(data[at : at + size])
            at += size
        if self.transport.is_closing():
            self._held = b""
            return
        self._held = data[at:]
        if not self._held:
            self._release()
            return
        self.hold()
        if not self._must_wait():
            self.loop.call_soon(self._parse_held)

    def _release(self) -> None:
        """Read again unless uvicorn waits as well, for a response or until a body is consumed."""
        if self._is_holding and not self.pipeline and len(self.cycle.body if self.cycle else b"") <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()
        self._is_holding = False
        if self._has_ended and not self._is_last_response_pending():
            self.transport.close()

    def _must_wait(self) -> bool:
        return bool(self.pipeline) or self.transport.is_closing()

    def _is_last_response_pending(self) -> bool:
        if not self.is_response_pending():
            return False
        self.cycle.keep_alive = False
        return True
