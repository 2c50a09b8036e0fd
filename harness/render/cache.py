"""Renderings by content: the same page under the same browser and settings is never measured twice.

What a page's task checks say is kept apart, so that one page in the place of several tasks' answers is measured once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from harness.render.browser import BrowserChoice, font_choices_hash, fonts_hash
from harness.render.settings import (
    CLOCK,
    DESKTOP_WIDTH,
    MAX_ELEMENTS,
    MAX_HTML_BYTES,
    PHONE_WIDTH,
    RENDERER_VERSION,
    SCREENSHOT_MAX_HEIGHT,
    VIEWPORT_HEIGHT,
    RenderRequest,
    RenderSettings,
)
from harness.types import CheckResult, Rendering

_RENDERING: Final = TypeAdapter(Rendering)
_CHECKS: Final = TypeAdapter(tuple[CheckResult, ...])
_TRANSIENT_OUTCOMES: Final = frozenset({"unscored", "timeout", "crash"})
"""Outcomes that another machine, or the same one on a quieter day, may not repeat: never kept."""


@functools.cache
def _code_hash() -> str:
    """Return the SHA-256 over the renderer itself: its Python, the scripts that it puts into pages, and axe."""
    digest = hashlib.sha256()
    for suffix in ("*.py", "*.js"):
        for file in sorted(Path(__file__).parent.rglob(suffix)):
            digest.update(f"{file.relative_to(Path(__file__).parent).as_posix()}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


class RenderCache:
    """Files under `<folder>/renders/`: a JSON file for what was measured of a page, one for what its checks said,
    and screenshots by their own content."""

    def __init__(self, folder: Path, settings: RenderSettings, browser: BrowserChoice) -> None:
        self._folder = folder / "renders"
        self._basis = json.dumps(
            {
                "renderer": [RENDERER_VERSION, _code_hash()],
                "packages": {name: version(name) for name in ("playwright", "pillow")},
                "platform": [sys.platform, platform.machine()],
                "settings": settings.key(),
                "browser": [browser.name, browser.version],
                "fonts": [fonts_hash(), font_choices_hash()],
                "viewport": [DESKTOP_WIDTH, PHONE_WIDTH, VIEWPORT_HEIGHT, SCREENSHOT_MAX_HEIGHT],
                "limits": [MAX_HTML_BYTES, MAX_ELEMENTS],
                "clock": CLOCK,
            },
            sort_keys=True,
        )

    def key(self, request: RenderRequest, checks: bool = False) -> str:
        """Return the SHA-256, in hex, over all that decides what is measured of a page; its name does not.

        With `checks` it is over all that decides what its task checks say.
        """
        digest = hashlib.sha256(self._basis.encode())
        digest.update(request.html.encode("utf-8", "surrogatepass") + b"\0")
        if checks:
            digest.update(repr(request.checks).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def holds(self, request: RenderRequest) -> bool:
        """Return whether there is a rendering, without reading it."""
        kept = [self.key(request)] + ([self.key(request, checks=True)] if request.checks else [])
        return all(self._file(key).is_file() for key in kept)

    def load(self, request: RenderRequest) -> Rendering | None:
        """Return the kept rendering, or None where there is none or its files are damaged."""
        page = self.load_page(request)
        if page is None or not request.checks:
            return page
        try:
            said = json.loads(self._file(self.key(request, checks=True)).read_text(encoding="utf-8"))
            return dataclasses.replace(page, checks=_CHECKS.validate_python(said["checks"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def load_page(self, request: RenderRequest) -> Rendering | None:
        """Return what is kept of the page alone, without the results of its checks."""
        try:
            record = json.loads(self._file(self.key(request)).read_text(encoding="utf-8"))
            shots = {name: self._shot(sha) for name, sha in record["screenshots"].items()}
            return _RENDERING.validate_python({**record, "screenshots": shots})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, request: RenderRequest, rendering: Rendering) -> None:
        """Keep `rendering`, unless its outcome may pass; a full or read-only disk loses the entry, not the run."""
        self.store_page(request, rendering)
        self.store_checks(request, rendering)

    def store_checks(self, request: RenderRequest, rendering: Rendering) -> None:
        """Keep what the page's checks said, as `store` does."""
        if not request.checks or rendering.outcome in _TRANSIENT_OUTCOMES or rendering.checks_unmeasured:
            return
        said = [dataclasses.asdict(result) for result in rendering.checks or ()]
        with contextlib.suppress(OSError):
            _write(self._file(self.key(request, checks=True)), json.dumps({"checks": said}).encode())

    def store_page(self, request: RenderRequest, rendering: Rendering) -> None:
        """Keep what was measured of the page, as `store` does, without the results of its checks."""
        if rendering.outcome in _TRANSIENT_OUTCOMES:
            return
        names = {name: hashlib.sha256(picture).hexdigest() for name, picture in rendering.screenshots.items()}
        with contextlib.suppress(OSError):
            for name, sha in names.items():
                shot = self._file(sha, ".png")
                if not shot.exists():
                    _write(shot, rendering.screenshots[name])
            record = dataclasses.asdict(dataclasses.replace(rendering, screenshots={}, checks=None))
            _write(self._file(self.key(request)), json.dumps(record | {"screenshots": names}).encode())

    def _file(self, digest: str, suffix: str = ".json") -> Path:
        return self._folder / digest[:2] / (digest + suffix)

    def _shot(self, sha: str) -> bytes:
        picture = self._file(sha, ".png").read_bytes()
        if hashlib.sha256(picture).hexdigest() != sha:
            raise ValueError("damaged screenshot")
        return picture


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all: readers of the same cache see no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
