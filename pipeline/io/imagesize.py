"""How large an image file says its image is, told without decoding it."""

import io
import struct
import warnings

from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
# What else OpenCV decodes and Pillow knows the headers of.
OTHERS = ("BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM", "SUN")

# A JPEG's markers that are followed by a size, and those that are followed by nothing.
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = {0x01, *range(0xD0, 0xD8)}
_MOST_SEGMENTS = 10**6

# Pillow warns of sizes; who asks for them decides about them.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def image_size(content: bytes) -> tuple[int, int] | None:
    """Returns an image's width and height in pixels, None where the file is none or damaged.

    PNG and JPEG are read here, as they come by the ten thousand, and Pillow takes as long as
    decoding. A PNG's blocks are followed to their end: OpenCV allocates whatever size one claims.

    Args:
        content: the whole file.
    """
    try:
        if content.startswith(PNG):
            return _png_size(content)
        if content.startswith(JPEG):
            return _jpeg_size(content)
        with Image.open(io.BytesIO(content), formats=OTHERS) as image:
            return image.size
    except Exception:  # Pillow raises nearly anything over a damaged header
        return None


def _png_size(content: bytes) -> tuple[int, int] | None:
    # https://www.w3.org/TR/png-3/#5Chunk-layout: length, name, data, checksum
    length, name, *size = struct.unpack_from(">I4sII", content, len(PNG))
    if (length, name) != (13, b"IHDR"):
        return None
    place = len(PNG)
    for _ in range(_MOST_SEGMENTS):
        length, name = struct.unpack_from(">I4s", content, place)
        place += 12 + length
        if place > len(content):
            return None
        if name == b"IEND":
            return tuple(size)
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    # ITU-T T.81, B.1.1 and B.2.2: marker, length, data; a frame's are precision, height, width
    place = 2
    for _ in range(_MOST_SEGMENTS):
        start, marker, length = struct.unpack_from(">BBH", content, place)
        if start != 0xFF:
            return None
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, place + 5)
            return width, height
        # 0xFF may be repeated before a marker.
        place += 1 if marker == 0xFF else 2 if marker in _BARE else 2 + length
    return None
