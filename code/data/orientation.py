"""The orientation of an image as its metadata gives it; damaged metadata counts as none. No torch."""

from PIL import Image

TAG = 0x0112
UPRIGHT = 1
TRANSPOSE = {  # EXIF 2.32, tag Orientation: how to bring the stored image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_orientation(image: Image.Image) -> int | None:
    """Return the orientation (1 to 8) of an opened image, from Exif or XMP; None without one that can be read.

    Of a PNG, the pixels are decoded, because Pillow reads the rest of the file after them; of a TIFF, because Pillow
    turns them upright then. Raises what decoding raises.
    """
    if image.format == "TIFF":
        image.load()
        return None
    if image.format == "PNG":
        image.load()
    try:
        found = image.getexif().get(TAG)
        return None if found is None else next((known for known in TRANSPOSE if known == found), UPRIGHT)
    except MemoryError:
        raise
    except Exception:  # Pillow raises many types for damaged metadata: SyntaxError, struct.error, KeyError ...
        return None
