"""Measures hostile HTML in a closed browser: what is seen, what went wrong, and what the prompt's checks say."""

from __future__ import annotations

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
