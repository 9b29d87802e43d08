"""Bodies with Content-Encoding gzip, decompressed in a decoding process. No torch, no starlette."""

import zlib

_GZIP = 16 + zlib.MAX_WBITS  # zlib's way to ask for a gzip header


class CompressionError(Exception):
    """A body that cannot be decompressed; `code` is the reason for programs (`bad_gzip`, `payload_too_large`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def decompress(body: bytes, limit: int) -> bytes:
    """Return the one gzip stream in a body; raise CompressionError for another body, or for more bytes than `limit`."""
    decompressor = zlib.decompressobj(_GZIP)
    try:
        data = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise CompressionError("bad_gzip", "Content-Encoding is gzip, but the body is not gzip data") from None
    if len(data) > limit:
        raise CompressionError("payload_too_large", f"the decompressed body is larger than {limit} bytes")
    if not decompressor.eof or decompressor.unused_data:
        raise CompressionError("bad_gzip", "the gzip data is truncated or followed by other data")
    return data
