"""Measures hostile HTML in a closed browser: what is seen, what went wrong, and what the prompt's checks say."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.render.renderer import Renderer, render_html, render_pages
    from harness.render.settings import RENDERER_VERSION, Deadlines, RenderRequest, RenderSettings

__all__ = [
    "RENDERER_VERSION",
    "Deadlines",
    "RenderRequest",
    "RenderSettings",
    "Renderer",
    "render_html",
    "render_pages",
]


def __getattr__(name: str) -> object:
    """Load what is asked for, so that harness/setup/browser.py works before the renderer's packages are there."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "renderer" if name in ("Renderer", "render_html", "render_pages") else "settings"
    return getattr(import_module(f"{__name__}.{module}"), name)
