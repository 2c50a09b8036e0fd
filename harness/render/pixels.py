"""Screenshots as numbers and as small files."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

PALETTE = 256


@dataclass(frozen=True, slots=True)
class Picture:
    """A screenshot as it is kept."""

    file: bytes
    """A palette PNG."""
    painted_share: float


def read(encoded: str, height: int) -> Picture:
    """Return the picture that Chromium sent as a base64 PNG; `painted_share` looks at the upper `height` rows."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        rgba = image.convert("RGBA")
    return Picture(compress(rgba.convert("RGB")), painted_share(rgba, height))


def painted_share(image: Image.Image, height: int) -> float:
    """Return the share, 0 to 1, of the RGBA image's upper `height` rows whose pixels differ from the background.

    The background is the most frequent colour, found on every eighth pixel in both directions.
    """
    import numpy as np

    words = np.asarray(image)[:height].view(np.uint32)[..., 0]
    colours, counts = np.unique(words[::8, ::8], return_counts=True)
    return float((words != colours[counts.argmax()]).mean())


def compress(image: Image.Image) -> bytes:
    """Return `image` as a palette PNG of at most 256 colours without dithering; equal pixels give equal bytes.

    A page's text and boxes come out at 2 to 9 kB for 1280 × 800: smaller than WebP at quality 65, and a tenth of the
    time that Chromium takes to encode WebP (130 ms a picture on two shared cores).
    """
    from PIL import Image

    small = image.quantize(PALETTE, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    small.save(out, format="PNG", compress_level=6)
    return out.getvalue()
