"""The body of a request: its type, its length, its encoding. Nothing is kept beyond the limits."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from server.responses import Problem, quoted

MEDIA_TYPES = ("application/x-image", "application/octet-stream")  # and every image/...
ENCODINGS = ("", "identity", "gzip")
_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to ask for a gzip header


def check_types(request: Request) -> None:
    """Raise Problem 415 unless the body may be an image; which kind it is, its first bytes say, not its label."""
    given = request.headers.get("content-type", "")
    name = given.split(";")[0].strip().lower()
    if name and not name.startswith("image/") and name not in MEDIA_TYPES:
        listed = ", ".join(("image/jpeg or another image type", *MEDIA_TYPES))
        raise Problem(415, "unsupported_media_type", f"Content-Type is {quoted(given)}, expected {listed}")
    encoding = request.headers.get("content-encoding", "")
    if encoding.strip().lower() not in ENCODINGS:
        raise Problem(415, "unsupported_encoding", f"Content-Encoding is {quoted(encoding)}, expected gzip or none")


def is_gzipped(request: Request) -> bool:
    return request.headers.get("content-encoding", "").strip().lower() == "gzip"


class Intake:
    """Reads bodies of at most `limit` bytes, and of all bodies together at most `budget`."""

    def __init__(self, limit: int, budget: int) -> None:
        self.limit, self.budget = limit, budget
        self.held = 0  # bytes of all bodies that have come and are not answered yet

    @contextmanager
    def holding(self) -> Iterator[list[bytes]]:
        """An empty list of chunks for one body, which counts until the block is left."""
        chunks: list[bytes] = []
        try:
            yield chunks
        finally:
            self.held -= sum(map(len, chunks))

    async def read(self, request: Request, chunks: list[bytes]) -> None:
        """Read a body into `chunks`; raises Problem 413 or 503 as soon as it is clear, ClientDisconnect if cut off."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self.limit:
            raise too_large(self.limit)
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.limit:
                raise too_large(self.limit)
            if self.held + len(chunk) > self.budget:
                raise overloaded()
            self.held += len(chunk)
            chunks.append(chunk)


def decompress(body: bytes, limit: int) -> bytes:
    """Unpack a gzip body; raises Problem 413 beyond the limit and 400 for what is no whole gzip stream."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        data = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise Problem(400, "bad_gzip", "the body is not gzip, as Content-Encoding says") from None
    if len(data) > limit:
        raise too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise Problem(400, "bad_gzip", "the gzip body is cut off, or something follows it")
    return data


def too_large(limit: int) -> Problem:
    return Problem(
        413,
        "payload_too_large",
        f"the body has more than {limit} bytes; SAGEMAKER_MAX_PAYLOAD_IN_MB sets the limit",
    )


def overloaded() -> Problem:
    return Problem(503, "overloaded", "as many requests are waiting as the server takes; come back in a second")
