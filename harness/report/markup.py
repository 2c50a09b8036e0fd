"""Puts templates, styles and scripts together into one page that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness import safe_text
from harness.report import numbers, view
from harness.report.modules import join_modules
from harness.storage.outputs import GENERATOR, Mark, write_output

if TYPE_CHECKING:
    from jinja2 import Template

_KINDS = {"report": "report", "overview": "list of runs"}
_TITLES = {"report": rb"<title>[^<]* \xc2\xb7 report</title>", "overview": b"<title>All runs</title>"}
"""Pages of before they were marked: this title, and the policy that no other page has."""
_FONTS = (
    ("Report Sans", "100 900", "inter-latin-wght-normal.woff2"),
    ("Report Serif", "400", "source-serif-4-latin-400-normal.woff2"),
)


def policy(script: str) -> str:
    """Return the Content-Security-Policy for a page whose only script is `script`.

    Everything is forbidden but that script (by its hash), the page's own pictures, and styles. Styles have no hash
    because a sandboxed frame inherits the page's policy: with hashes the live view would show every page without its
    styles. `frame-src 'none'` lets `srcdoc` through and no address; trusted types leave one door for markup, the live
    view's.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' data:; "
        "font-src data:; frame-src 'none'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types live"
    )


@cache
def script(name: str) -> str:
    """Return the whole script of a page, "report" or "overview": its module and all that it imports."""
    return join_modules(f"{name}.js", _asset)


@cache
def style() -> str:
    """Return the style sheet that both pages share, its fonts included."""
    parts = (_asset(part) for part in ("base.css", "report.css", "gallery.css", "detail.css", "print.css"))
    return "\n".join([*(_font(*font) for font in _FONTS), *parts])


def _font(name: str, weights: str, file: str) -> str:
    data = base64.b64encode((files("harness.report") / "vendor/fonts" / file).read_bytes()).decode("ascii")
    return (
        f'@font-face {{ font-family: "{name}"; font-weight: {weights}; font-display: block; '
        f'src: url(data:font/woff2;base64,{data}) format("woff2"); }}'
    )


def _asset(name: str) -> str:
    return (files("harness.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def _template(name: str) -> Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"line": safe_text.one_line, "seconds": numbers.seconds, "count": numbers.count}
    environment.globals |= {"view": view, "numbers": numbers, "generator": f"{GENERATOR}, {_KINDS[name]}"}
    return environment.get_template(f"{name}.html.j2")


def render(name: str, **context: object) -> str:
    """Render a template of this package; all that is put in is escaped but the package's own SVG and JSON."""
    code = script(name)
    return _template(name).render(policy=policy(code), script=Markup(code), style=Markup(style()), **context)


def mark(name: str) -> Mark:
    """Return what says that a page is one of ours, "report" or "overview": the one is never written over the other."""
    marked = rf'<meta name="generator" content="{GENERATOR}, {_KINDS[name]}">'.encode()
    return re.compile(marked + rb"|trusted-types live[^>]*>(?s:.*)" + _TITLES[name])


def write(path: Path, text: str, name: str) -> Path:
    """Write a page whole or not at all, in UTF-8; lone surrogates, which UTF-8 lacks, become question marks.

    Raises:
        UsageError: a page that is not of this kind, or not ours, stands there.
    """
    write_output(path, text.encode("utf-8", "replace"), mark(name))
    return path
