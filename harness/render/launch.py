"""Starts browsers in a closed room and leaves nothing behind: no process, no temporary file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from harness.errors import HarnessError
from harness.render.browser import INSTALL_HINT, BrowserChoice, namespace_command
from harness.render.devtools import Connection
from harness.render.settings import LOCALE, TIME_ZONE, RenderSettings

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

_PREFIX = "html-harness-render-"
_MARKER = ".html-harness-renderer"
"""Stands in each of these folders: somebody else's of such a name is not cleared away."""
_environment = threading.Lock()

# Every switch is a second safeguard where context options and routes are the first; see docs/rendering.md.
_SWITCHES = (
    "--disable-gpu",
    "--in-process-gpu",
    "--block-new-web-contents",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--no-proxy-server",
    "--dns-prefetch-disable",
    "--no-pings",
    "--disable-background-networking",
    "--disable-domain-reliability",
    "--disable-quic",
    "--disable-notifications",
    "--disable-speech-api",
    "--disable-webgl",
    "--disable-3d-apis",
    "--deny-permission-prompts",
    "--font-render-hinting=none",
    "--disable-lcd-text",
)

# One process for all tabs of a browser context: without site isolation, and with no room for a second one.
_SHARE = (
    "--disable-site-isolation-trials",
    "--renderer-process-limit=1",
    "--disable-features=IsolateOrigins,site-per-process,SpareRendererForSitePerProcess",
)
_FEATURES = "--disable-features="


class Room:
    """The temporary folder of one renderer, with a janitor that clears it even after `kill -9` of this process."""

    def __init__(self) -> None:
        sweep()
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        (self.path / _MARKER).touch()
        self._janitor: subprocess.Popen[bytes] | None = None
        shell = shutil.which("sh")
        if shell is not None and sys.platform != "win32":
            # The pipe closes when this process ends, however it ends; then the janitor clears the folder. In a session
            # of its own, Ctrl-C does not reach it. It tries again because a dying browser may still write.
            script = 'cat >/dev/null; for i in 1 2 3 4 5 6; do rm -rf "$0"; sleep 0.5; done; rm -rf "$0"'
            self._janitor = subprocess.Popen(
                [shell, "-c", script, str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def as_temporary_folder(self) -> Iterator[None]:
        """Let programs started meanwhile put their temporary files here."""
        with _environment:
            before = os.environ.get("TMPDIR")
            os.environ["TMPDIR"] = str(self.path)
            try:
                yield
            finally:
                if before is None:
                    del os.environ["TMPDIR"]
                else:
                    os.environ["TMPDIR"] = before

    def clear(self) -> None:
        """Remove the folder and dismiss the janitor; what a dying process still writes is removed for two seconds."""
        limit = time.monotonic() + 2
        shutil.rmtree(self.path, ignore_errors=True)
        while self.path.exists() and time.monotonic() < limit:
            time.sleep(0.05)
            shutil.rmtree(self.path, ignore_errors=True)
        if self._janitor is not None:
            # Its own session, so its `cat` is in its group alone.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._janitor.pid, 9)
            self._janitor.wait()
            if self._janitor.stdin is not None:
                self._janitor.stdin.close()
            self._janitor = None


def sweep() -> None:
    """Remove the folders of renderers whose process is gone: what is left after a machine was switched off."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and (folder / _MARKER).is_file() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def wrapper(room: Room, choice: BrowserChoice, settings: RenderSettings) -> str | None:
    """Return the program to start as the browser: a wrapper into a network namespace where that works."""
    if choice.path is None or not settings.namespace:
        return choice.path
    command, _ = namespace_command()
    if not command:
        return choice.path
    script = room.path / "browser.sh"
    if not script.exists():
        line = " ".join(shlex.quote(part) for part in (*command, choice.path))
        script.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
        script.chmod(0o700)
    try:
        subprocess.run([str(script), "--version"], capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):  # a temporary folder mounted noexec, or a sandbox that objects
        return choice.path
    return str(script)


async def launch(
    playwright: Playwright, program: str | None, settings: RenderSettings, more: Sequence[str] = ()
) -> Browser:
    """Start one browser with all safeguards; `more` are further arguments.

    Raises:
        HarnessError: the browser does not start.
    """
    from playwright.async_api import Error

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    try:
        return await asyncio.wait_for(
            playwright.chromium.launch(
                executable_path=program,
                headless=True,
                # Chromium refuses its sandbox to root; for everyone else it stays on.
                chromium_sandbox=not root,
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
                args=[*_SWITCHES, f"--js-flags=--max-old-space-size={settings.heap_memory}", *more],
            ),
            settings.deadlines.launch,
        )
    except (TimeoutError, Error) as error:
        line = next((text for text in str(error).splitlines() if text.strip()), "no answer")
        raise HarnessError(f"the browser {program or ''} does not start: {line.strip()}", INSTALL_HINT) from error


async def shared_arguments(playwright: Playwright, room: Room, settings: RenderSettings) -> list[str]:
    """Return the arguments for `launch_shared`: those with which this version of Playwright starts a browser, and ours.

    Playwright tells its arguments to the program that it starts alone, so it starts one that writes them down.

    Raises:
        OSError: such a program cannot be started.
    """
    told, program = room.path / "arguments", room.path / "tell.sh"
    program.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" >{shlex.quote(str(told))}\n', encoding="utf-8")
    program.chmod(0o700)
    with contextlib.suppress(HarnessError):  # it is no browser
        await launch(playwright, str(program), settings, _SHARE)
    arguments = told.read_text(encoding="utf-8").split("\0")[:-1]
    # The browser heeds the last list of features only; and the profile is Playwright's, which has removed it by now.
    off = ",".join(each.removeprefix(_FEATURES) for each in arguments if each.startswith(_FEATURES))
    kept = [each for each in arguments if not each.startswith((_FEATURES, "--user-data-dir="))]
    return [*kept, _FEATURES + off, f"--lang={LOCALE}"]


async def launch_shared(program: str, room: Room, arguments: Sequence[str]) -> Connection:
    """Start a browser with the same safeguards whose tabs share one process (Linux); see `shared_arguments`.

    Raises:
        OSError: the browser does not start.
    """
    profile = tempfile.mkdtemp(prefix="profile-", dir=room.path)
    place = {"TMPDIR": str(room.path), "TZ": TIME_ZONE, "LANG": "en_US.UTF-8", "LANGUAGE": "en_US"}
    return await Connection.start(program, [*arguments, f"--user-data-dir={profile}"], os.environ | place)
