"""Small files that are built to keep a decoder busy for minutes: told by their structure, before anything is decoded.

How many pixels an image may have, images.py says. Here is what else takes Pillow and libjpeg long: scans that go over
all pixels again, metadata in thousands of pieces, headers that are read byte by byte, and the decoders that are written
in Python. For an ordinary image each check takes some microseconds. No torch.
"""

import re
from dataclasses import dataclass

MAX_SEGMENTS = 1000  # of a JPEG before its first scan; an image has about ten
MAX_SCANS = 1000  # of a JPEG; a progressive one has about ten
MAX_SCANNED_PIXELS = 1_000_000_000  # scans x pixels: twenty times the largest image
CHUNK_BYTES = 1024  # of a PNG, on average, beyond the first thousand chunks; encoders write 8 kB and more
MAX_PPM_HEADER = 4096  # bytes

_JPEG = b"\xff\xd8"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan: no escaped 0xff and no restart marker
_SOS, _EOI, _SEQUENTIAL, _NO_FRAME = 0xDA, 0xD9, (0xC0, 0xC1, 0xC9), (0xC4, 0xC8, 0xCC)
_ALONE = (0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE))  # without a segment, or for Pillow so
_SLOW_PPM = re.compile(rb"P(?:[1-6f]|0CMYK|yP|yRGBA|yCMYK)(?:\s|#)")  # all that Pillow opens as one
_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])+"
_NUMBER = _SPACE + rb"(\d+)"
_PPM = re.compile(rb"P(?:4%b%b\s|5%b%b%b\s|6%b%b%b\s)" % ((_NUMBER,) * 8))


def find_bomb(data: bytes) -> str | None:
    """Why it would take too long to open these bytes, or None."""
    if data.startswith(_JPEG):
        segments = _Header.read(data).segments
        return f"more than {MAX_SEGMENTS} segments" if segments > MAX_SEGMENTS else None
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _find_chunks(data, 1000 + len(data) // CHUNK_BYTES)
    if data.startswith(b"BM") and data[14:18] > b"\x0c\0\0\0" and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0"):
        return "a BMP with run-length encoding, save it as PNG"
    if _SLOW_PPM.match(data) and not _is_quick_ppm(data):
        return "a PPM that is not binary with 8 bits, or has a long header; save it as PNG"
    return None


def find_scan_bomb(data: bytes, pixels: int) -> str | None:
    """Why it would take too long to decode an image of so many pixels, if it is a JPEG, or None."""
    if not data.startswith(_JPEG):
        return None
    most = min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, pixels))
    header = _Header.read(data)
    if header.has_one_scan or data.count(b"\xff\xda") <= most:
        return None
    return f"more than {most} scans" if _count_scans(data, header.end, most) > most else None


@dataclass(frozen=True)
class _Header:
    """What comes before the first scan of a JPEG: how many segments, where it ends, and whether one scan is all."""

    segments: int
    end: int
    has_one_scan: bool

    @classmethod
    def read(cls, data: bytes) -> "_Header":
        """Stops after MAX_SEGMENTS; what is no marker is skipped byte by byte, as Pillow does, and counts as well."""
        place, segments, frame, components = 2, 0, 0, 0
        while place + 10 <= len(data) and segments <= MAX_SEGMENTS:
            marker = data[place + 1]
            if data[place] != 0xFF or marker in (0x00, 0xFF):
                place, segments = place + 1, segments + 1
                continue
            if marker in _ALONE:
                place, segments = place + 2, segments + 1
                continue
            if marker == _SOS:
                return cls(segments, place, frame in _SEQUENTIAL and data[place + 4] == components)
            if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
                frame, components = marker, data[place + 9]
            place, segments = place + 2 + int.from_bytes(data[place + 2 : place + 4]), segments + 1
        return cls(segments, place, False)


def _count_scans(data: bytes, place: int, most: int) -> int:
    """The scans of a JPEG from the first on; stops above `most`, and where the image ends.

    A scan has a few tables before it; where there are more than ten to each, all is taken for scans.
    """
    scans, segments = 0, 0
    while scans <= most and (found := _MARKER.search(data, place)):
        marker, place = found[0][-1], found.end()
        if marker == _EOI:  # what follows the end, such as a phone's video, is not decoded
            break
        scans, segments = scans + (marker == _SOS), segments + 1
        if segments > 11 * most:
            return segments
        if marker not in _ALONE:
            place += int.from_bytes(data[place : place + 2])
    return scans


def _find_chunks(data: bytes, most: int) -> str | None:
    """Why a PNG has too many chunks; of colour profiles, which are unpacked on opening, more than one."""
    place, chunks, profiles = 8, 0, 0
    while place + 8 <= len(data):
        chunks, profiles = chunks + 1, profiles + (data[place + 4 : place + 8] == b"iCCP")
        place += 12 + int.from_bytes(data[place : place + 4])
        if chunks > most or profiles > 1:
            return f"more than {most} chunks" if chunks > most else "several colour profiles"
    return None


def _is_quick_ppm(data: bytes) -> bool:
    """Whether Pillow reads it in C: bits, or grey and colour of 8 bits, or grey of 16; after a header of some bytes."""
    found = _PPM.match(data[:MAX_PPM_HEADER])
    if not found:
        return False
    largest = found[5] or found[8]
    return largest in (None, b"255") or (largest == b"65535" and found[5] is not None)
