"""The body of a request: its type, its length, its encoding. No more than the limits is ever kept in memory."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from server.responses import RequestError, quoted

MEDIA_TYPES = ("application/x-image", "application/octet-stream", "binary/octet-stream")  # and every image/...
ENCODINGS = ("", "identity", "gzip")
_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to ask for a gzip header


def check_types(request: Request) -> None:
    """Raise RequestError 415 unless the body may be an image; its first bytes tell which kind, not the header."""
    given = request.headers.get("content-type", "")
    name = given.split(";")[0].strip().lower()
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


class BodyReader:
    """Read bodies of at most `limit` bytes each, and of at most `budget` bytes together."""

    def __init__(self, limit: int, budget: int) -> None:
        self.limit, self.budget = limit, budget
        self.buffered = 0  # bytes of all bodies whose requests have no response yet

    @contextmanager
    def buffer(self) -> Iterator[list[bytes]]:
        """Yield an empty list for the chunks of one body, which count until the block ends."""
        chunks: list[bytes] = []
        try:
            yield chunks
        finally:
            self.buffered -= sum(map(len, chunks))

    async def read(self, request: Request, chunks: list[bytes]) -> None:
        """Read a body into `chunks`.

        Raises RequestError 413 or 503 as soon as a limit is exceeded, ClientDisconnect if the client leaves.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self.limit:
            raise too_large(self.limit)
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self.limit:
                raise too_large(self.limit)
            if self.buffered + len(chunk) > self.budget:
                raise overloaded()
            self.buffered += len(chunk)
            chunks.append(chunk)


def decompress(body: bytes, limit: int) -> bytes:
    """Decompress a gzip body; raise RequestError 413 beyond the limit and 400 for anything but one gzip stream."""
    decompressor = zlib.decompressobj(_GZIP)
    try:
        data = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise RequestError(400, "bad_gzip", "Content-Encoding is gzip, but the body is not gzip data") from None
    if len(data) > limit:
        raise too_large(limit)
    if not decompressor.eof or decompressor.unused_data:
        raise RequestError(400, "bad_gzip", "the gzip data is truncated or followed by other data")
    return data


def too_large(limit: int) -> RequestError:
    return RequestError(
        413,
        "payload_too_large",
        f"the body is larger than {limit} bytes; SAGEMAKER_MAX_PAYLOAD_IN_MB sets the limit",
    )


def overloaded() -> RequestError:
    return RequestError(503, "overloaded", "too many requests are waiting; retry in a second")
