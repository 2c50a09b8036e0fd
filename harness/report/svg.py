"""A drawing of matplotlib as inline SVG, recoloured so that it follows the page's theme."""

from __future__ import annotations

import hashlib
import re
import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from lxml import etree

from harness.safe_text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = ("ink", "muted", "line", "better", "worse", "open", "paper", *(f"series-{number}" for number in range(1, 7)))
_VARIABLES = {f"#{number:02x}{number:02x}{number:02x}": name for number, name in enumerate(_NAMES, 1)}
"""matplotlib wants colours as numbers; these stand for the page's CSS variables and are replaced in the SVG."""
INK, MUTED, GRID, BETTER, WORSE, OPEN, PAPER, *SERIES = _VARIABLES


def figure_of(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return an empty drawing of so many inches of 72 px, without a frame."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=72)
    axes = figure.add_subplot()
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    return figure, axes


def svg_of(figure: Figure, title: str, description: str) -> str:
    """Return a drawing as inline SVG in the page's colours, with a title and a text for who does not see it."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    target = BytesIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "report", "text.parse_math": False, "axes.unicode_minus": True}
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)  # type: ignore[attr-defined]
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a label in a script that DejaVu lacks: the page's own fonts draw it
        FigureCanvasSVG(figure).print_svg(
            target, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _themed(target.getvalue(), title, description)


_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"


def _themed(svg: bytes, title: str, description: str) -> str:
    """Let the drawing inherit the page's colours and font, without style rules, with its own ids and a text."""
    root = etree.fromstring(svg, etree.XMLParser(resolve_entities=False, no_network=True))
    key = f"plot-{hashlib.sha256(svg).hexdigest()[:10]}"
    for element in list(root.iter()):
        if element.tag in (f"{_SVG}metadata", f"{_SVG}style"):
            element.getparent().remove(element)
            continue
        if "style" in element.attrib:
            for name, value in _declarations(element.attrib.pop("style")):
                if not name.startswith("font-family"):
                    element.set(name, value)
        for name, value in list(element.attrib.items()):
            if value in _VARIABLES:
                element.set(name, f"var(--{_VARIABLES[value]})")
            elif name == "id":
                element.set("id", f"{key}-{value}")
            elif name == _XLINK:
                del element.attrib[name]
                element.set("href", f"#{key}-{value.lstrip('#')}")
            elif value.startswith("url(#"):
                element.set(name, f"url(#{key}-{value[5:]}")
    for name in ("width", "height", "version"):
        root.attrib.pop(name, "")
    root.set("role", "img")
    root.set("aria-labelledby", f"{key}-t {key}-d")
    root.set("stroke-linejoin", "round")
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = etree.Element(f"{_SVG}{tag}", id=f"{key}-{tag[0]}")
        child.text = one_line(text)
        root.insert(place, child)
    return str(etree.tostring(root, encoding="unicode"))


def _declarations(style: str) -> list[tuple[str, str]]:
    pairs = []
    for part in style.split(";"):
        name, _, value = part.partition(":")
        name, value = name.strip(), value.strip()
        if name == "font":
            # "500 10px 'DejaVu Sans', ..." or "10px ...": only weight and size are the drawing's own
            if match := re.match(r"(?:(\w+)\s+)?([\d.]+)px", value):
                pairs += [("font-size", match[2])] + ([("font-weight", match[1])] if match[1] else [])
        elif name:
            pairs.append((name, value))
    return pairs
