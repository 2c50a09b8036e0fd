from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.render import RenderRequest, RenderSettings, cache, renderer
from harness.render.browser import BrowserChoice
from harness.render.cache import RenderCache
from harness.types import CheckResult, Rendering

BROWSER = BrowserChoice("/usr/bin/x", "chromium-headless-shell", "156.0", "")
PAGE = RenderRequest("a", "<p>x", ({"why": "x", "level": "must", "see": {"css": "p"}},))
DONE = Rendering(
    outcome="ok",
    visible_text="x \ud800",
    overflow={"1280": 0},
    errors=("e",),
    accessibility=({"id": "image-alt", "nodes": ["img"]},),
    screenshots={"desktop": b"png", "phone": b"other"},
    checks=(CheckResult("x", "must", True),),
)


def test_a_rendering_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = RenderCache(tmp_path, RenderSettings(), BROWSER)
    assert kept.load(PAGE) is None
    kept.store(PAGE, DONE)
    assert kept.load(PAGE) == DONE
    assert kept.load(replace(PAGE, key="another name")) == DONE
    assert not list(tmp_path.rglob(".tmp-*"))


def test_whatever_decides_the_rendering_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(
        page: RenderRequest = PAGE, settings: RenderSettings | None = None, browser: BrowserChoice = BROWSER
    ) -> str:
        return RenderCache(tmp_path, settings or RenderSettings(), browser).key(page)

    keys = [
        key(),
        key(replace(PAGE, html="<p>y")),
        key(replace(PAGE, checks=())),
        key(settings=RenderSettings(axe=False)),
        key(settings=RenderSettings(twice=True)),
        key(browser=replace(BROWSER, version="157.0")),
        key(browser=replace(BROWSER, name="chromium")),
    ]
    monkeypatch.setattr(cache, "fonts_hash", lambda: "other fonts")
    keys.append(key())
    monkeypatch.setattr(cache, "RENDERER_VERSION", 99)
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key(settings=RenderSettings(workers=7)) == keys[-1]


@pytest.mark.parametrize("outcome", ["unscored", "timeout", "crash"])
def test_what_may_pass_is_not_kept(tmp_path: Path, outcome: str) -> None:
    kept = RenderCache(tmp_path, RenderSettings(), BROWSER)
    kept.store(PAGE, replace(DONE, outcome=outcome))
    assert kept.load(PAGE) is None


@pytest.mark.parametrize("suffix", [".json", ".png"])
def test_damaged_files_are_no_rendering(tmp_path: Path, suffix: str) -> None:
    kept = RenderCache(tmp_path, RenderSettings(), BROWSER)
    kept.store(PAGE, DONE)
    for file in tmp_path.rglob("*" + suffix):
        file.write_bytes(file.read_bytes()[:2])
    assert kept.load(PAGE) is None


def test_a_kept_page_needs_no_browser(tmp_path: Path, browser_there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    page = RenderRequest("a", "<!DOCTYPE html><p>Kept")
    settings = RenderSettings(axe=False, workers=1)
    first = renderer.render_pages([page], settings, cache_dir=tmp_path)
    monkeypatch.setattr(renderer.Renderer, "_started", lambda self: pytest.fail("a browser was started"))
    assert renderer.render_pages([page], settings, cache_dir=tmp_path) == first
