from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest

from harness.checks.parse import parse_check
from harness.render import RenderRequest, RenderSettings, cache, renderer
from harness.render.browser import BrowserChoice
from harness.render.cache import RenderCache
from harness.render.settings import Deadlines
from harness.types import CheckResult, Rendering

BROWSER = BrowserChoice("/usr/bin/x", "chromium-headless-shell", "156.0", "")
PAGE = RenderRequest("a", "<p>x", (parse_check({"why": "x", "level": "must", "see": {"css": "p"}}),))
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
    assert kept.load(replace(PAGE, checks=())) == replace(DONE, checks=None)
    assert not list(tmp_path.rglob(".tmp-*"))


SILENT_SETTINGS = {
    "workers": "pages do not see one another",
    "shared_process": "what a shared process measures is what a page's own would, or is measured anew there",
    "pages_per_process": "as above",
    "pages_per_browser": "as above",
    "namespace": "a second wall behind the first: nothing gets out either way",
}


def test_every_setting_that_decides_the_rendering_is_in_the_key(tmp_path: Path) -> None:
    def key(settings: RenderSettings) -> str:
        return RenderCache(tmp_path, settings, BROWSER).key(PAGE)

    changes = {
        field.name: {"workers": 7, "deadlines": Deadlines(load=1.0)}.get(field.name)
        or (not value if isinstance(value := getattr(RenderSettings(), field.name), bool) else value + 1)
        for field in fields(RenderSettings)
    }
    before = key(RenderSettings())
    silent = {name for name, value in changes.items() if key(replace(RenderSettings(), **{name: value})) == before}
    assert silent == set(SILENT_SETTINGS)
    for field in fields(Deadlines):
        later = replace(Deadlines(), **{field.name: getattr(Deadlines(), field.name) + 1})
        assert key(RenderSettings(deadlines=later)) != before


def test_a_page_is_known_whatever_its_checks_but_what_they_say_is_kept_for_each(tmp_path: Path) -> None:
    kept = RenderCache(tmp_path, RenderSettings(), BROWSER)
    kept.store(PAGE, DONE)
    other = replace(PAGE, checks=(parse_check({"why": "y", "level": "must", "see": {"css": "q"}}),))
    assert kept.load(other) is None
    assert kept.load_page(other) == replace(DONE, checks=None)
    kept.store(other, replace(DONE, checks=(CheckResult("y", "must", False, "not there"),)))
    said = [kept.load(page) for page in (PAGE, other)]
    assert [page.checks[0].why for page in said if page is not None and page.checks] == ["x", "y"]


def test_whatever_else_decides_the_rendering_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(page: RenderRequest = PAGE, browser: BrowserChoice = BROWSER) -> str:
        return RenderCache(tmp_path, RenderSettings(), browser).key(page)

    assert key() == key(replace(PAGE, checks=()))

    keys = [
        key(),
        key(replace(PAGE, html="<p>y")),
        RenderCache(tmp_path, RenderSettings(), BROWSER).key(PAGE, checks=True),
        RenderCache(tmp_path, RenderSettings(), BROWSER).key(replace(PAGE, checks=()), checks=True),
        key(browser=replace(BROWSER, version="157.0")),
        key(browser=replace(BROWSER, name="chromium")),
    ]
    for name, value in (
        ("fonts_hash", lambda: "other fonts"),
        ("font_choices_hash", lambda: "another sans-serif"),
        ("_code_hash", lambda: "another axe"),
        ("RENDERER_VERSION", 99),
        ("version", lambda name: "another Playwright"),
        *((name, 1) for name in ("MAX_HTML_BYTES", "MAX_ELEMENTS", "DESKTOP_WIDTH", "PHONE_WIDTH", "CLOCK")),
        *((name, 1) for name in ("VIEWPORT_HEIGHT", "SCREENSHOT_MAX_HEIGHT")),
    ):
        monkeypatch.setattr(cache, name, value)
        keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key(replace(PAGE, key="another name")) == keys[-1]


@pytest.mark.parametrize("name", ["axe.min.js", "measure.js", "shared_tab.py", "checks.py"])
def test_the_renderers_own_code_is_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    copy = tmp_path / "render"
    shutil.copytree(Path(cache.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    hashes = [cache._code_hash.__wrapped__()]
    monkeypatch.setattr(cache, "__file__", str(copy / "cache.py"))
    hashes.append(cache._code_hash.__wrapped__())
    (file,) = copy.rglob(name)
    file.write_bytes(file.read_bytes() + b" ")
    hashes.append(cache._code_hash.__wrapped__())
    assert hashes[0] == hashes[1] != hashes[2]


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
