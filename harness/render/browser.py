"""Which browser measures the pages, and whether it can be shut in a network namespace of its own."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.storage.variables import folder_variable, variable, without_tilde

INSTALL_HINT = (
    "install one with `html-harness setup`, or by hand with `apt-get install chromium-headless-shell` or "
    "`playwright install chromium --only-shell`"
)
_ON_PATH = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
_MAC_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


@dataclass(frozen=True, slots=True)
class BrowserChoice:
    """The browser that was found. `path` is Playwright's `executable_path`; None leaves the choice to Playwright."""

    path: str | None
    name: str
    version: str
    why: str


@functools.cache
def find_browser() -> BrowserChoice:
    """Return the browser to use: HARNESS_BROWSER, else Playwright's own download, else one on the machine.

    Raises:
        HarnessError: no browser was found, or HARNESS_BROWSER names none; the hint is the line that installs one.
    """
    wanted = variable("HARNESS_BROWSER")
    if wanted:
        path = shutil.which(wanted)
        if path is None:
            raise HarnessError(f"HARNESS_BROWSER={wanted} is no program", INSTALL_HINT)
        return _choice(path, "HARNESS_BROWSER names it")
    for name, version, path in _playwright_downloads():
        return BrowserChoice(path, name, version, "Playwright's own download")
    for name in _ON_PATH:
        path = shutil.which(name)
        if path is not None:
            return _choice(path, f"{name} is on the PATH")
    for app in _MAC_APPS:
        if Path(app).exists():
            return _choice(app, "it is installed as an application")
    raise HarnessError("no Chromium was found", INSTALL_HINT)


def _choice(path: str, why: str) -> BrowserChoice:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HarnessError(f"{path} does not start: {error}", INSTALL_HINT) from error
    found = re.search(r"\d+(?:\.\d+)+", said)
    if found is None:
        raise HarnessError(f"{path} does not tell its version, so it is no Chromium", INSTALL_HINT)
    return BrowserChoice(path, Path(path).name, found[0], why)


def _playwright_downloads() -> Iterator[tuple[str, str, str | None]]:
    """Yield name, version and executable of the browsers that `playwright install` left, the headless shell first."""
    import playwright

    driver = Path(playwright.__file__).parent / "driver"
    listed = json.loads((driver / "package" / "browsers.json").read_text(encoding="utf-8"))["browsers"]
    wanted = {entry["name"]: entry for entry in listed if entry["name"] in ("chromium-headless-shell", "chromium")}
    for name in ("chromium-headless-shell", "chromium"):
        entry = wanted.get(name)
        if entry is None:
            continue
        folder = _downloads_folder(driver) / f"{name.replace('-', '_')}-{entry['revision']}"
        if not (folder / "INSTALLATION_COMPLETE").exists():
            continue
        # Only the wrapper of the network namespace needs the path itself; that exists on Linux alone.
        found = sorted(p for p in folder.glob("*/*") if p.name in ("headless_shell", "chrome-headless-shell", "chrome"))
        path = str(found[0]) if sys.platform == "linux" and found else None
        if path is None and name == "chromium":
            continue  # Playwright's headless default is the shell; without its path the full browser can't be named
        yield name, str(entry.get("browserVersion", "")), path


def _downloads_folder(driver: Path) -> Path:
    chosen = variable("PLAYWRIGHT_BROWSERS_PATH")
    if chosen == "0":
        return driver / "package" / ".local-browsers"
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return without_tilde("~") / "Library" / "Caches" / "ms-playwright"
    if sys.platform == "win32":
        return (folder_variable("LOCALAPPDATA") or without_tilde("~") / "AppData" / "Local") / "ms-playwright"
    return (folder_variable("XDG_CACHE_HOME") or without_tilde("~") / ".cache") / "ms-playwright"


@functools.cache
def namespace_command() -> tuple[tuple[str, ...], str]:
    """Return the command prefix that gives a program a network namespace without any interface up, and why.

    The prefix is empty where that is impossible, and the second value says what stands against it.
    """
    if sys.platform != "linux":
        return (), f"network namespaces exist on Linux only, this is {sys.platform}"
    unshare = shutil.which("unshare")
    if unshare is None:
        return (), "the program unshare (util-linux) is missing"
    said = ""
    # Root needs no user namespace; anyone else keeps their own uid inside one, for the browser's own sandbox
    # refuses to run for a uid that looks like root.
    for options in (("--net",), ("--user", "--map-current-user", "--net")):
        try:
            tried = subprocess.run([unshare, *options, "true"], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
            continue
        if tried.returncode == 0:
            return (unshare, *options, "--"), "unshare " + " ".join(options)
        said = tried.stderr.strip() or f"exit status {tried.returncode}"
    return (), f"the kernel refuses it: {said}"


def network_namespace() -> tuple[bool, str]:
    """Return whether the browser runs in its own network namespace, and why or why not, for `doctor`."""
    command, why = namespace_command()
    if command:
        return True, f"the browser runs in its own network namespace ({why})"
    return False, f"the browser shares the machine's network, closed by routes, offline mode and resolver rules: {why}"


@functools.cache
def fonts_hash() -> str:
    """Return 16 hex digits that differ where other fonts could be used, hence pixels could differ."""
    digest = hashlib.sha256()
    listed = ""
    if shutil.which("fc-list"):
        try:
            listed = subprocess.run(
                ["fc-list", "--format", "%{file}|%{fontversion}|%{fullname}\n"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            listed = ""
    if listed:
        digest.update("\n".join(sorted(set(listed.splitlines()))).encode())
    else:
        folders = ("/usr/share/fonts", "/System/Library/Fonts", "/Library/Fonts", r"C:\Windows\Fonts")
        for font in sorted(p for f in folders for p in Path(f).rglob("*") if p.is_file()):
            digest.update(f"{font.name} {font.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]


@functools.cache
def font_choices_hash() -> str:
    """Return 16 hex digits over fontconfig's rules, which say what `sans-serif` is; over nothing without fontconfig."""
    digest = hashlib.sha256()
    listed = ""
    if shutil.which("fc-conflist"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(["fc-conflist"], capture_output=True, text=True, timeout=30, check=False)
            listed = done.stdout
    for line in listed.splitlines():
        used, _, rest = line.partition(" ")
        path = Path(rest.partition(":")[0])
        if used == "+" and path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
