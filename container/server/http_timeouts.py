"""The limits that uvicorn lacks: the time for a request to arrive, and its head and the bytes around its body.

uvicorn's timeouts start again with every byte, so a client that sends one byte a second can hold a connection forever.
Here the connection is closed if a request has not arrived completely some seconds after it began, whether it is still
read or already has a response, and also if a client does not read its responses. Headers, chunk sizes and trailers are
bounded too. And a request that asks for another protocol must not have a body, because the parser would read that as
the next request.

A client that hangs up takes its work with it: an application that has put a function into `scope[ON_HANG_UP]` is told.
A client that only ends its sending side looks the same, but it accepts an interim response, while the kernel of a
client that has hung up resets the connection.
"""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from server.http_parts import PartsProtocol
from server.responses import error_body

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_HEAD_BYTES = 16 << 10  # headers, trailers and the like of one request
MAX_HEADERS = 100  # lines
MAX_FRAMING = 6  # bytes on the wire for one byte of body, as many as chunks of a single byte need
ON_HANG_UP = "on_hang_up"  # in the scope of a request: a function without arguments
HANG_UP_SECONDS = 0.1  # between looks at the connection of a client that has finished sending
_RESET = 7  # TCP_CLOSE, the kernel's state of a connection that was reset


class TimeoutProtocol(PartsProtocol):
    """An HTTP/1.1 connection on which every request has `receive_seconds` to arrive."""

    def __init__(self, receive_seconds: float, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.receive_seconds = receive_seconds
        self._receive_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_is_read = False  # of the request that is arriving
        self._is_rejected = False  # the request that is arriving
        self._wire_bytes = self._body_bytes = 0
        self._running_cycle: RequestResponseCycle | None = None  # of pipelined requests, the one that is processed now

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.resume_writing()
        self._disconnect()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        is_kept = super().eof_received()
        if is_kept and self.scope["http_version"] != "1.0":  # 1.0 has no interim responses
            if self._is_between_responses():
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._look_for_reset()
        return is_kept

    def parse(self, part: bytes) -> None:
        self._start_timer()
        self._wire_bytes += len(part)
        super().parse(part)
        if self._wire_bytes > MAX_HEAD_BYTES + MAX_FRAMING * self._body_bytes:
            self._reject(431, "headers_too_large", f"the request headers are larger than {MAX_HEAD_BYTES} bytes")
        elif self.headers is not None and len(self.headers) > MAX_HEADERS:
            self._reject(431, "headers_too_large", f"the request has more than {MAX_HEADERS} header lines")

    def hold(self) -> None:
        super().hold()
        self._stop_timer()  # it is not the client who is slow

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_timer()
        self._head_is_read = False
        self._wire_bytes, self._body_bytes = 1, 0

    def on_headers_complete(self) -> None:
        self._is_rejected = self.parser.should_upgrade() and self._declares_body()
        if self._is_rejected:
            self._reject(400, "upgrade_not_offered", "protocol upgrades are not supported; send plain HTTP/1.1")
            return
        super().on_headers_complete()
        self._head_is_read = True
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def _declares_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
            for name, value in self.headers
        )

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: every client may ask for an upgrade."""

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._wire_bytes = self._body_bytes = 0
        if not self._is_rejected:
            super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.receive_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        self._reject(400, "bad_request", "the request is not valid HTTP/1.1")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        self._running_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _disconnect(self) -> None:
        """Tell the request that is processed now; uvicorn tells only the newest, and then writes after the close."""
        if (cycle := self._running_cycle) is None or cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if on_hang_up := cast(Callable[[], object] | None, cycle.scope.get(ON_HANG_UP)):
            on_hang_up()

    def _is_between_responses(self) -> bool:
        """Return whether the request that is processed now has no response yet, not even a part of one."""
        return self._running_cycle is not None and not self._running_cycle.response_started

    def _look_for_reset(self) -> None:
        """Close the connection if the client has reset it; the event loop does not notice while nothing is written."""
        if self.transport.is_closing():
            return
        state = self.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        if state[0] == _RESET:
            self.transport.abort()
        else:
            self.loop.call_later(HANG_UP_SECONDS, self._look_for_reset)

    def _start_timer(self) -> None:
        if self._receive_timer is None:
            self._receive_timer = self.loop.call_later(self.receive_seconds, self._time_out)

    def _stop_timer(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _time_out(self) -> None:
        self._receive_timer = None
        self._reject(408, "too_slow", f"the request did not arrive within {self.receive_seconds:g} seconds")

    def _reject(self, status: int, code: str, message: str) -> None:
        """Close the connection, with a response if the request that is arriving has none yet."""
        if self.transport.is_closing():
            return
        if self.is_response_pending() and not self.pipeline:
            self.cycle.keep_alive = False  # the request before this one gets its response, then the connection closes
            self.flow.pause_reading()
            return
        cycle = self.cycle
        is_open = cycle is not None and not cycle.response_complete
        has_no_response = is_open and not cycle.response_started if self._head_is_read else self._wire_bytes > 0
        if has_no_response and not self.pipeline:
            self.transport.write(_response(status, error_body(code, message)))
        if cycle is not None:  # the application must not write to a transport that is closed
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def _response(status: int, body: bytes) -> bytes:
    head = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
