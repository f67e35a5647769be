"""Makes pictures small enough to be embedded in a page or an event file."""

import dataclasses
import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING

from annlib.errors import StorageError

if TYPE_CHECKING:
    from PIL.Image import Image

# The report and TensorBoard show the same pictures in the same size, so that each is scaled once.
PICTURE_WIDTH = 1400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """An encoded picture.

    Args:
        content: the bytes of the file.
        media_type: `image/png` or `image/jpeg`.
        width: in pixels.
        height: in pixels.
    """

    content: bytes
    media_type: str
    width: int
    height: int


def read_scaled(path: Path, *, max_bytes: int | None = None) -> Picture:
    """Reads a PNG; one wider than 1400 pixels is scaled down in proportion.

    Args:
        path: PNG file.
        max_bytes: a larger result is encoded as JPEG of quality 85 instead; None keeps PNG.

    Raises:
        StorageError: the file is missing or is no whole picture.
    """
    from PIL import Image

    try:
        picture = _scaled_png(path.read_bytes())
        if max_bytes is None or len(picture.content) <= max_bytes:
            return picture
        with Image.open(io.BytesIO(picture.content)) as image:
            return dataclasses.replace(picture, content=_encode(image, "JPEG"), media_type="image/jpeg")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StorageError(
            f"picture {path} cannot be read: expected a whole PNG file, received {reason}. Remove it, or draw it again."
        ) from None


@functools.lru_cache(maxsize=8)
def _scaled_png(content: bytes) -> Picture:
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        image.load()
        width, height = image.size
        if width > PICTURE_WIDTH:
            width, height = PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width))
            content = _encode(_scaled(image, (width, height)), "PNG")
    return Picture(content=content, media_type="image/png", width=width, height=height)


def _scaled(image: "Image", size: tuple[int, int]) -> "Image":
    from PIL import Image

    if image.mode not in ("RGB", "RGBA"):
        # A palette cannot be interpolated.
        image = image.convert("RGBA")
    # By a whole factor first: a diagram of a large model takes hundreds of megabytes and a second otherwise.
    factor = image.width // (2 * size[0])
    return (image.reduce(factor) if factor > 1 else image).resize(size, Image.Resampling.HAMMING)


def _encode(image: "Image", kind: str) -> bytes:
    from PIL import Image

    flat = image
    if image.mode != "RGB":
        # Pictures are drawn on white; without transparency they need a quarter less.
        image = image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A"))
    file = io.BytesIO()
    # PNG without `optimize`, which takes about twice as long for a few per cent.
    flat.save(file, kind, optimize=kind == "JPEG", quality=85)
    return file.getvalue()
