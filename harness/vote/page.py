"""The page on which people vote: no framework, no network, nothing of an answer is ever run or parsed as HTML."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def _asset(name: str) -> str:
    return (files("harness.vote") / "assets" / name).read_text(encoding="utf-8")


def page(nonce: str) -> str:
    """Return the page; `nonce` is that of the Content-Security-Policy it is served under."""
    sides = "".join(
        f'<section aria-label="{title}"><h2>{title}</h2><img id="{name}-image" alt="Screenshot of page {title}" hidden>'
        f'<p id="{name}-missing" class="none">No screenshot.</p>'
        f'<details><summary>Code</summary><pre id="{name}-code"></pre></details></section>'
        for name, title in (("left", "A"), ("right", "B"))
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Which page is better?</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style nonce="{nonce}">{_asset("vote.css")}</style></head><body><main>'
        "<header><h1>Which page answers the prompt better?</h1>"
        '<span id="progress" role="status"></span></header><p id="problem" role="alert"></p>'
        f'<div id="ballot" hidden><div id="prompt"></div><div id="sides">{sides}</div></div>'
        '<div id="buttons" hidden><button data-choice="left">A is better <kbd>←</kbd></button>'
        '<button data-choice="tie">Equally good <kbd>↓</kbd></button>'
        '<button data-choice="both-bad">Both bad <kbd>x</kbd></button>'
        '<button data-choice="right">B is better <kbd>→</kbd></button><span>Code <kbd>c</kbd></span></div>'
        '<p id="finished" hidden>All judged. Thank you; you can close this page and stop the server.</p>'
        f'</main><script type="module" nonce="{nonce}">{_asset("vote.js")}</script></body></html>'
    )
