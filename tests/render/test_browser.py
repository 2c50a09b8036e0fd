from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.render import Renderer, RenderRequest, RenderSettings, browser


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch):
    browser.find_browser.cache_clear()
    yield
    monkeypatch.undo()
    browser.find_browser.cache_clear()


def program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts stand in for browsers")
def test_the_environment_names_the_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = program(tmp_path / "mine", "Chromium 140.0.1.2 built on Debian")
    monkeypatch.setenv("HARNESS_BROWSER", str(mine))
    found = browser.find_browser()
    assert (found.path, found.version) == (str(mine), "140.0.1.2")


@pytest.mark.parametrize("wanted", ["/nowhere/chromium", "no-such-browser"])
def test_a_wrong_name_is_one_line(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("HARNESS_BROWSER", wanted)
    with pytest.raises(HarnessError, match=wanted) as error:
        browser.find_browser()
    assert "apt-get install chromium-headless-shell" in error.value.hint


def test_no_browser_says_what_to_type(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_BROWSER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr(browser, "_MAC_APPS", ())
    with pytest.raises(HarnessError) as error:
        browser.find_browser()
    assert "playwright install chromium --only-shell" in error.value.hint


@pytest.mark.skipif(sys.platform != "linux", reason="paths of Linux downloads")
def test_playwrights_own_headless_shell_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import json

    import playwright

    listed = Path(playwright.__file__).parent / "driver" / "package" / "browsers.json"
    entries = {entry["name"]: entry for entry in json.loads(listed.read_text())["browsers"]}
    for name in ("chromium", "chromium-headless-shell"):
        folder = tmp_path / f"{name.replace('-', '_')}-{entries[name]['revision']}"
        (folder / "chrome-linux").mkdir(parents=True)
        program(folder / "chrome-linux" / ("chrome" if name == "chromium" else "headless_shell"), "x")
        if name == "chromium":
            (folder / "INSTALLATION_COMPLETE").touch()
    monkeypatch.delenv("HARNESS_BROWSER", raising=False)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    assert browser.find_browser().name == "chromium"  # the shell's download is not complete
    next(tmp_path.glob("chromium_headless_shell-*")).joinpath("INSTALLATION_COMPLETE").touch()
    browser.find_browser.cache_clear()
    assert browser.find_browser().path.endswith("headless_shell")


def test_a_browser_that_does_not_start_is_our_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("shell scripts stand in for browsers")
    monkeypatch.setenv("HARNESS_BROWSER", str(program(tmp_path / "broken", "Chromium 140.0.1.2")))
    with Renderer(RenderSettings(workers=1)) as renderer:
        page = renderer.render([RenderRequest("a", "<p>x")])["a"]
    assert page.outcome == "unscored"
    assert "does not start" in page.detail


def test_the_namespace_is_told_with_its_reason() -> None:
    inside, why = browser.network_namespace()
    assert ("own network namespace" in why) == inside
    assert len(browser.fonts_hash()) == 16
