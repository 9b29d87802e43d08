"""The body of a request: its type, its length, its encoding. No more than the limits is ever kept in memory.

A body is decompressed where it is decoded, in a process with limits (slot_work.py).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from server.responses import RequestError, quoted

MEDIA_TYPES = ("application/x-image", "application/octet-stream", "binary/octet-stream")  # and every image/...
ENCODINGS = ("", "identity", "gzip")
PART_BYTES = 64 << 10  # smaller parts are joined


def check_types(request: Request) -> None:
    """Raise RequestError 415 unless the body may be an image; its first bytes tell which kind, not the header."""
    given = request.headers.get("content-type", "")
    name = given.partition(";")[0].strip().lower()
    if name and not name.startswith("image/") and name not in MEDIA_TYPES:
        listed = ", ".join(("image/jpeg or another image type", *MEDIA_TYPES))
        raise RequestError(415, "unsupported_media_type", f"Content-Type is {quoted(given)}, expected {listed}")
    encoding = request.headers.get("content-encoding", "")
    if encoding.strip().lower() not in ENCODINGS:
        raise RequestError(
            415, "unsupported_encoding", f"Content-Encoding is {quoted(encoding)}, expected gzip or none"
        )


def is_gzipped(request: Request) -> bool:
    return request.headers.get("content-encoding", "").strip().lower() == "gzip"


class Body:
    """The body of one request, as far as it has arrived."""

    def __init__(self) -> None:
        self.size = 0  # bytes
        self.parts: list[bytes | bytearray] = []
        self.reader: asyncio.Task[None] | None = None  # while it arrives
        self.error: RequestError | None = None  # why it was given up

    def append(self, chunk: bytes) -> None:
        """Add what has arrived; the bytes are not copied, unless they are few."""
        self.size += len(chunk)
        if self.parts and len(chunk) < PART_BYTES:
            last = self.parts[-1]
            if isinstance(last, bytearray) and len(last) < PART_BYTES:
                last += chunk
                return
            chunk = bytearray(chunk)  # type: ignore[assignment]
        self.parts.append(chunk)

    def take(self) -> list[bytes | bytearray]:
        """Return the parts, which are not kept here any more; the size still counts."""
        parts, self.parts = self.parts, []
        return parts


class BodyReader:
    """Read bodies of at most `limit` bytes each, and of at most `budget` bytes together.

    When the budget is used up, the bodies that are still arriving make room, the oldest first: a client that sends its
    body in time is not rejected because others hold theirs back.
    """

    def __init__(self, limit: int, budget: int) -> None:
        self.limit, self.budget = limit, budget
        self.buffered = 0  # bytes of all bodies whose requests have no response yet
        self._arriving: dict[Body, None] = {}  # a set in the order in which they began

    @contextmanager
    def buffer(self) -> Iterator[Body]:
        """Yield an empty body, whose bytes count until the block ends."""
        body = Body()
        try:
            yield body
        finally:
            self._release(body)

    async def read(self, request: Request, body: Body) -> None:
        """Read the body of a request.

        Raises RequestError 413 or 503 as soon as a limit is exceeded or the body is given up, ClientDisconnect if the
        client leaves.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self.limit:
            raise too_large(self.limit)
        body.reader, self._arriving[body] = asyncio.current_task(), None
        try:
            async for chunk in request.stream():
                if body.size + len(chunk) > self.limit:
                    raise too_large(self.limit)
                self._make_room(len(chunk), body)
                self.buffered += len(chunk)
                body.append(chunk)
        except asyncio.CancelledError:
            if body.error is None or body.reader is None:
                raise
            body.reader.uncancel()
            raise body.error from None
        finally:
            self._arriving.pop(body, None)

    def give_up(self, error: RequestError) -> None:
        """Let all bodies that are still arriving fail with an error."""
        for body in list(self._arriving):
            self._give_up(body, error)

    def _make_room(self, size: int, wanted: Body) -> None:
        """Give up bodies until `size` more bytes fit; raise RequestError 503 if only younger ones are left."""
        while self.buffered + size > self.budget:
            oldest = next(iter(self._arriving))
            if oldest is wanted:
                raise overloaded()
            self._give_up(oldest, RequestError(503, "overloaded", "the body arrives too slowly; send it again"))

    def _give_up(self, body: Body, error: RequestError) -> None:
        del self._arriving[body]
        self._release(body)
        body.error = error
        if body.reader is not None:
            body.reader.cancel()

    def _release(self, body: Body) -> None:
        self.buffered -= body.size
        body.size, body.parts = 0, []


def too_large(limit: int) -> RequestError:
    return RequestError(
        413,
        "payload_too_large",
        f"the body is larger than {limit} bytes; SAGEMAKER_MAX_PAYLOAD_IN_MB sets the limit",
    )


def overloaded() -> RequestError:
    return RequestError(503, "overloaded", "too many requests are waiting; retry in a second")
