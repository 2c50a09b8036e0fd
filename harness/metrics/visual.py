"""How alike two rendered pages look: their blocks are matched one to one, then each pair is compared.

The parts are those of Design2Code (Si et al. 2024, section 3.3: text, position, colour, and how much is matched), with
the size of each block beside them. A pixel measure such as SSIM cannot say this: a page moved by 3 px shares hardly a
pixel with itself.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.metrics.parser_pool import NotMeasured
from harness.types import Block, Rendering, Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Pixels = NDArray[np.uint8]

MAX_BLOCKS = 300
"""The largest blocks of a page that are compared: the matching's cost grows with the cube of their number."""
LEAST_SHARED_TEXT = 0.5
"""Two texts that share less are not the same block (Design2Code's threshold)."""
_MAX_PIXELS = 60_000_000
_THUMBNAIL = 32
"""Side, in pixels, to which graphics are brought before their contents are compared."""
_INK = 24
"""Levels of 255 by which a pixel differs from its surroundings where something is drawn."""
_FAINT = 5
"""Levels of 255 by which a box must differ from what is around it to be seen."""
_BOX_WEIGHT = 0.5
_EDGE = 2
"""Pixels on both sides of a box's edge that are read."""
_VIEWPORT = (1280.0, 800.0)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The blocks of one page that its picture really shows."""

    blocks: tuple[Block, ...]
    foreground: Numbers
    """Mean colour of what is drawn, (blocks, 3) in RGB, 0 to 255."""
    background: Numbers
    """Most frequent colour, (blocks, 3) in RGB, 0 to 255."""
    thumbnails: Mapping[int, Numbers]
    """Each graphic by its block's index, in grey, 32 × 32, 0 to 255."""


def visual_similarity(page: Rendering, reference: Rendering) -> Score:
    """Return how alike two pages look at 1280 px, 0 to 100; 0 where one of them shows nothing.

    Blocks are matched one to one so that the sum of their likeness is greatest (the assignment problem). The score is
    twice that sum over the blocks of both pages, each weighed by the square root of its area (boxes, which say nothing
    themselves, by half of it), so that a coloured background does not outweigh the words on it. A pair's likeness is
    the mean of four parts, 0 to 1:

    - what it says: normalised Indel similarity of the texts; SSIM of the pictures for graphics;
    - position: 1 − the larger of the centres' distances across and down, by the width and the height of the page;
    - size: the geometric mean of the ratios of width and of height;
    - colour: 1 − CIEDE2000 / 100, mean of foreground and background.

    Raises:
        NotMeasured: there is no picture or no list of blocks, or a picture cannot be read.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    ours, theirs = _seen(page, "page"), _seen(reference, "reference")
    if not ours.blocks and not theirs.blocks:
        return Score(100.0)
    if not ours.blocks or not theirs.blocks:
        return Score(0.0)
    likeness = _likeness(ours, theirs)
    weights = [np.array([_weight(block) for block in side.blocks]) for side in (ours, theirs)]
    pair_weights = weights[0][:, None] + weights[1][None, :]
    rows, columns = linear_sum_assignment(likeness * pair_weights, maximize=True)
    matched = float((likeness * pair_weights)[rows, columns].sum())
    return Score(100.0 * matched / float(weights[0].sum() + weights[1].sum()))


def _weight(block: Block) -> float:
    root: float = (block.width * block.height) ** 0.5
    return root * _BOX_WEIGHT if block.kind == "box" else root


def _likeness(ours: _Seen, theirs: _Seen) -> Numbers:
    """How alike each block of one page is to each of the other, (ours, theirs), 0 to 1; 0 where they cannot match."""
    import numpy as np

    height = max(_VIEWPORT[1], *(block.y + block.height for block in (*ours.blocks, *theirs.blocks)))
    boxes = [
        np.array([(b.x + b.width / 2, b.y + b.height / 2, b.width, b.height) for b in side.blocks])
        for side in (ours, theirs)
    ]
    first, second = boxes[0][:, None, :], boxes[1][None, :, :]
    away = np.abs(first[..., :2] - second[..., :2]) / (_VIEWPORT[0], height)
    position = 1 - np.minimum(away.max(axis=2), 1)
    ratios = np.minimum(first[..., 2:], second[..., 2:]) / np.maximum(first[..., 2:], second[..., 2:])
    size = np.sqrt(ratios.prod(axis=2))
    colour = (_colour(ours.foreground, theirs.foreground) + _colour(ours.background, theirs.background)) / 2
    content, comparable = _content(ours, theirs)
    likeness: Numbers = np.where(comparable, (content + position + size + colour) / 4, 0.0)
    return likeness


def _content(ours: _Seen, theirs: _Seen) -> tuple[Numbers, NDArray[np.bool_]]:
    """What blocks say, and which pairs may be matched at all: those of one kind that share half of their text."""
    import numpy as np
    from rapidfuzz import process
    from rapidfuzz.distance import Indel

    texts = [[block.text for block in side.blocks] for side in (ours, theirs)]
    said: Numbers = process.cdist(
        *texts, scorer=Indel.normalized_similarity, score_cutoff=LEAST_SHARED_TEXT, dtype=np.float64
    )
    kinds = [np.array([block.kind for block in side.blocks]) for side in (ours, theirs)]
    same_kind = kinds[0][:, None] == kinds[1][None, :]
    for i, j in np.argwhere(same_kind & (kinds[0] == "graphic")[:, None]):
        said[i, j] = _picture_likeness(ours.thumbnails[int(i)], theirs.thumbnails[int(j)])
    talks = same_kind & ((kinds[0] == "text") | (kinds[0] == "control"))[:, None]
    return said, same_kind & (~talks | (said >= LEAST_SHARED_TEXT))


def _picture_likeness(first: Numbers, second: Numbers) -> float:
    """SSIM (Wang et al. 2004) of two thumbnails; negative values as 0."""
    from skimage.metrics import structural_similarity

    return max(0.0, float(structural_similarity(first, second, data_range=255)))


def _thumbnail(crop: Numbers) -> Numbers:
    import numpy as np
    from PIL import Image

    sides = (_THUMBNAIL, _THUMBNAIL)
    return np.asarray(Image.fromarray(crop.astype(np.uint8)).convert("L").resize(sides), np.float64)


def _colour(first: Numbers, second: Numbers) -> Numbers:
    """1 − CIEDE2000 / 100 of each colour of one list and each of the other, (first, second)."""
    import numpy as np
    from skimage.color import deltaE_ciede2000, rgb2lab

    labs = [rgb2lab(colours[None, :, :] / 255)[0] for colours in (first, second)]
    shape = (len(labs[0]), len(labs[1]), 3)
    apart = deltaE_ciede2000(np.broadcast_to(labs[0][:, None], shape), np.broadcast_to(labs[1][None], shape))
    likeness: Numbers = 1 - np.minimum(apart, 100) / 100
    return likeness


def _edges(block: Block, picture: Pixels, margin: int = 0) -> tuple[int, int, int, int]:
    """The pixels that a block covers, cut to the picture."""
    height, width = picture.shape[:2]
    left, top = int(block.x) - margin, int(block.y) - margin
    right, bottom = round(block.x + block.width) + margin, round(block.y + block.height) + margin
    return max(0, left), max(0, top), min(width, right), min(height, bottom)


def _seen(rendering: Rendering, name: str) -> _Seen:
    if rendering.blocks is None:
        raise NotMeasured(f"the blocks of the {name} were not measured")
    data = rendering.screenshots.get("desktop")
    if data is None:
        raise NotMeasured(f"there is no screenshot of the {name}")
    return _look(rendering.blocks, data)


@lru_cache(maxsize=256)
def _look(blocks: tuple[Block, ...], data: bytes) -> _Seen:
    """Keep the blocks that the picture shows, with their colours; a reference is read once for all its answers."""
    import numpy as np

    picture, palette = _pixels(data)
    kept: list[Block] = []
    foregrounds, backgrounds = [], []
    thumbnails: dict[int, Numbers] = {}
    for block in sorted(blocks, key=lambda block: -block.width * block.height):
        left, top, right, bottom = _edges(block, picture)
        if right <= left or bottom <= top or len(kept) == MAX_BLOCKS:
            continue
        counts = np.bincount(picture[top:bottom, left:right].ravel(), minlength=len(palette))
        background = palette[counts.argmax()]
        ink = counts * (_apart(palette, background) > _INK)
        drawn = block.kind != "box" and ink.any()
        if not drawn and (block.kind == "text" or not _has_edge(block, picture, palette)):
            continue
        if block.kind == "graphic":
            thumbnails[len(kept)] = _thumbnail(palette[picture[top:bottom, left:right]])
        kept.append(block)
        foregrounds.append(ink @ palette / ink.sum() if block.kind == "text" else background)
        backgrounds.append(background)
    shape = (len(kept), 3)
    return _Seen(tuple(kept), np.array(foregrounds).reshape(shape), np.array(backgrounds).reshape(shape), thumbnails)


def _apart(palette: Numbers, colour: Numbers) -> Numbers:
    """The largest difference of a channel, 0 to 255, between each colour of the palette and one."""
    import numpy as np

    apart: Numbers = np.abs(palette - colour).max(axis=1)
    return apart


def _has_edge(block: Block, picture: Pixels, palette: Numbers) -> bool:
    """Whether a box differs from what is around it along one of its sides, by its colour or by a border.

    What lies inside does not count: a transparent box around words shows nothing of its own.
    """
    import numpy as np

    left, top, right, bottom = _edges(block, picture)
    far_left, far_top, far_right, far_bottom = _edges(block, picture, margin=_EDGE)
    sides = (
        (picture[far_top:top, left:right], picture[top : top + _EDGE, left:right]),
        (picture[bottom:far_bottom, left:right], picture[bottom - _EDGE : bottom, left:right]),
        (picture[top:bottom, far_left:left], picture[top:bottom, left : left + _EDGE]),
        (picture[top:bottom, right:far_right], picture[top:bottom, right - _EDGE : right]),
    )
    shares = []
    for outside, inside in sides:
        if outside.size and inside.size:
            around = palette[np.bincount(outside.ravel(), minlength=len(palette)).argmax()]
            differs = np.bincount(inside.ravel(), minlength=len(palette)) * (_apart(palette, around) > _FAINT)
            shares.append(differs.sum() / inside.size)
    # A dotted or rounded edge differs in part, on most sides; one side alone must be a line: a letter may stand there.
    return any(share > 0.9 for share in shares) or sum(share >= 0.25 for share in shares) * 2 > len(shares)


def _pixels(data: bytes) -> tuple[Pixels, Numbers]:
    """The picture as numbers of colours by row and column, and the colours in RGB, (colours, 3).

    Raises:
        NotMeasured: it is no picture, or too large a one.
    """
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
            if width * height <= _MAX_PIXELS:
                few = picture if picture.mode == "P" else picture.convert("RGB").quantize(dither=Image.Dither.NONE)
                return np.asarray(few), np.array(few.getpalette("RGB"), np.float64).reshape(-1, 3)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NotMeasured(f"a screenshot cannot be read: {error}"[:200]) from error
    raise NotMeasured(f"a screenshot of {width} × {height} pixels is too large to compare")
