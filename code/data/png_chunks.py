"""The chunks of a PNG that do not change its pixels, left out before the file is decoded. No torch.

Pillow rejects a whole image for a damaged text, date or colour profile. The PNG specification (section 5.4) calls such
chunks ancillary: their names start with a small letter, and a decoder may ignore them. Only tRNS is kept, and an
orientation that can be read.
"""

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from data.orientation import TAG, UPRIGHT, read_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Where Pillow looks for an orientation: in eXIf, and in texts with these keywords. The first that has one counts.
_KEYWORDS = (b"exif", b"Raw profile type exif", b"XML:com.adobe.xmp")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")


def drop_ancillary_chunks(data: bytes) -> bytes:
    """Return a PNG without ancillary chunks other than tRNS; its orientation is kept, as an eXIf chunk.

    An orientation that cannot be read is dropped, so that the image is upright. Other formats are returned as they are.
    """
    if not data.startswith(SIGNATURE):
        return data
    kept, metadata, end = [SIGNATURE], dict[bytes, bytes](), len(SIGNATURE)
    for start, end in _chunks(data):
        chunk = data[start:end]
        if not _is_dropped(chunk[4:8]):
            kept.append(chunk)
        elif keyword := _orientation_keyword(chunk):
            metadata[keyword] = chunk  # the last one counts, as in Pillow
    if sum(map(len, kept)) == end:
        return data
    orientation = _find_orientation(metadata)
    if orientation != UPRIGHT:
        kept.insert(2, _chunk(b"eXIf", struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, TAG, 3, 1, orientation, 0, 0)))
    return b"".join((*kept, data[end:]))


def _chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and end of every chunk up to IEND, or up to one that is neither whole nor dropped."""
    start = len(SIGNATURE)
    while start + 8 <= len(data):
        name, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4])
        if end > len(data) and not _is_dropped(name):
            return
        yield start, min(end, len(data))
        if name == b"IEND":
            return
        start = end


def _is_dropped(name: bytes) -> bool:
    """Return True for the name of an ancillary chunk that does not change pixels."""
    return name.isalpha() and name[:1].islower() and name != b"tRNS"


def _orientation_keyword(chunk: bytes) -> bytes | None:
    """Return the keyword of a chunk with a right CRC that may contain an orientation; None for any other chunk."""
    name, keyword = chunk[4:8], chunk[8:40].partition(b"\0")[0]
    keyword = _KEYWORDS[0] if name == b"eXIf" else keyword if name in _TEXTS else b""
    is_sound = keyword in _KEYWORDS and chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
    return keyword if is_sound else None


def _find_orientation(metadata: dict[bytes, bytes]) -> int:
    """Return the orientation (1 to 8) in the first of these chunks that has one; UPRIGHT without any."""
    found = (_read_alone(metadata[keyword]) for keyword in _KEYWORDS if keyword in metadata)
    return next((orientation for orientation in found if orientation), UPRIGHT)


def _read_alone(chunk: bytes) -> int | None:
    """Return the orientation (1 to 8) that Pillow reads from one chunk, or None."""
    try:
        with Image.open(io.BytesIO(_ONE_PIXEL[0] + chunk + _ONE_PIXEL[1]), formats=("PNG",)) as image:
            return read_orientation(image)
    except MemoryError:
        raise
    except Exception:  # Pillow raises many types for damaged metadata: SyntaxError, ValueError, zlib.error ...
        return None


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


# A PNG of one pixel, with room for a chunk in between.
_ONE_PIXEL = (
    SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
    _chunk(b"IDAT", zlib.compress(bytes(2))) + _chunk(b"IEND", b""),
)
