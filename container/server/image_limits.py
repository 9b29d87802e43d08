"""Limits on the structure of an image file, checked by the server before it decodes an image. No torch.

Training and inference decode in processes with limits (data/decode_pool.py); the server's threads have none. A small
file can be built to keep a decoder busy for minutes: with repeated scans over all pixels, metadata in thousands of
pieces, headers that are read byte by byte, and formats that Pillow decodes in Python. Each check takes microseconds
for an ordinary image.
"""

import io
import re
from dataclasses import dataclass

from PIL import Image

from data.images import FORMATS
from runtime.errors import ImageError

MAX_SEGMENTS = 1000  # in a JPEG before its first scan; usual are about ten
MAX_SCANS = 1000  # in a JPEG; a progressive one has about ten
MAX_SCANNED_PIXELS = 1_000_000_000  # scans x pixels: twenty times the largest image allowed
FREE_CHUNKS, CHUNK_BYTES = (
    1000,
    1024,
)  # a PNG may have 1000 chunks and one more per 1024 bytes; encoders write 8 kB each
MAX_PPM_HEADER = 4096  # bytes

_JPEG = b"\xff\xd8"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in a scan: not an escaped 0xff, not a restart marker
_SOS, _EOI, _SEQUENTIAL, _NO_FRAME = 0xDA, 0xD9, (0xC0, 0xC1, 0xC9), (0xC4, 0xC8, 0xCC)
_ALONE = (0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE))  # markers that Pillow reads without a segment
_ANY_PPM = re.compile(rb"P(?:[1-6f]|0CMYK|yP|yRGBA|yCMYK)(?:\s|#)")  # every kind that Pillow opens as PPM
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
_NUMBER = _SPACE + rb"(\d+)"
_FAST_PPM = re.compile(rb"P(?:4%b%b\s|5%b%b%b\s|6%b%b%b\s)" % ((_NUMBER,) * 8))


def check_image(data: bytes) -> None:
    """Raise ImageError for an image file that a decoder would spend too long on; ignore what is not an image."""
    if reason := find_exceeded_limit(data) or find_excess_scans(data, _count_pixels(data)):
        raise ImageError(f"would take too long to decode ({reason}): the image", "too_large")


def _count_pixels(data: bytes) -> int:
    """Return the pixels that the header declares, 0 where it cannot be read."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # decoders raise anything; decoding itself says what is wrong
        return 0


def find_exceeded_limit(data: bytes) -> str | None:
    """Return why the bytes of an image file would take too long to open, or None."""
    if data.startswith(_JPEG):
        segments = _Header.read(data).segments
        return f"more than {MAX_SEGMENTS} segments" if segments > MAX_SEGMENTS else None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _find_excess_chunks(data, FREE_CHUNKS + len(data) // CHUNK_BYTES)
    if data.startswith(b"BM") and data[14:18] > b"\x0c\0\0\0" and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0"):
        return "a BMP with run-length encoding, save it as PNG"
    if _ANY_PPM.match(data) and not _is_fast_ppm(data):
        return "a PPM that is not binary with 8 bits, or has a long header; save it as PNG"
    return None


def find_excess_scans(data: bytes, pixels: int) -> str | None:
    """Return why a JPEG of so many pixels would take too long to decode; None if it would not, or is not a JPEG."""
    if not data.startswith(_JPEG):
        return None
    most = min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, pixels))
    header = _Header.read(data)
    if header.has_one_scan or data.count(b"\xff\xda") <= most:
        return None
    return f"more than {most} scans" if _count_scans(data, header.end, most) > most else None


@dataclass(frozen=True)
class _Header:
    """The part of a JPEG before its first scan."""

    segments: int
    end: int  # offset of the first scan, in bytes
    has_one_scan: bool  # certainly; others have to be counted

    @classmethod
    def read(cls, data: bytes) -> "_Header":
        """Read up to MAX_SEGMENTS; bytes that are not a marker are skipped one by one, as in Pillow, and count too."""
        offset, segments, frame, components = 2, 0, 0, 0
        while offset + 10 <= len(data) and segments <= MAX_SEGMENTS:
            marker = data[offset + 1]
            if data[offset] != 0xFF or marker in (0x00, 0xFF):
                offset, segments = offset + 1, segments + 1
                continue
            if marker in _ALONE:
                offset, segments = offset + 2, segments + 1
                continue
            if marker == _SOS:
                return cls(segments, offset, frame in _SEQUENTIAL and data[offset + 4] == components)
            if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
                frame, components = marker, data[offset + 9]
            offset, segments = offset + 2 + int.from_bytes(data[offset + 2 : offset + 4]), segments + 1
        return cls(segments, offset, False)


def _count_scans(data: bytes, offset: int, most: int) -> int:
    """Count the scans of a JPEG from an offset to the end of the image; stop above `most`.

    A scan has a few tables before it. If there are more than ten per scan, every segment counts as a scan.
    """
    scans, segments = 0, 0
    while scans <= most and (found := _MARKER.search(data, offset)):
        marker, offset = found[0][-1], found.end()
        if marker == _EOI:  # data after the end, such as a phone's video, is not decoded
            break
        scans, segments = scans + (marker == _SOS), segments + 1
        if segments > 11 * most:
            return segments
        if marker not in _ALONE:
            offset += int.from_bytes(data[offset : offset + 2])
    return scans


def _find_excess_chunks(data: bytes, most: int) -> str | None:
    """Return why the chunks of a PNG are too many, or None; colour profiles are unpacked on opening, so one at most."""
    offset, chunks, profiles = 8, 0, 0
    while offset + 8 <= len(data):
        chunks, profiles = chunks + 1, profiles + (data[offset + 4 : offset + 8] == b"iCCP")
        offset += 12 + int.from_bytes(data[offset : offset + 4])
        if chunks > most or profiles > 1:
            return f"more than {most} chunks" if chunks > most else "several colour profiles"
    return None


def _is_fast_ppm(data: bytes) -> bool:
    """Return True if Pillow decodes a PPM in C: bits, grey or colour of 8 bits, or grey of 16; with a short header."""
    found = _FAST_PPM.match(data[:MAX_PPM_HEADER])
    if not found:
        return False
    largest = found[5] or found[8]
    return largest in (None, b"255") or (largest == b"65535" and found[5] is not None)
