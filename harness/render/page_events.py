"""What the browser reports of a page while it lives, and the one document that it is served."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.render.excuse import ScriptError
from harness.render.heard import LINE, Heard
from harness.render.settings import RenderRequest

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, ConsoleMessage, Dialog, Error, Page, Request, Route, WebSocket


def origin(request: RenderRequest) -> str:
    """Return the URL at which the page is served: one host per key, which no resolver knows."""
    name = re.sub(r"[^a-z0-9]+", "-", request.key.lower()).strip("-")[:30]
    digest = hashlib.sha256(request.key.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"https://{name or 'page'}-{digest}.test/"


class PageEventRecorder:
    """Serves one document at one origin, refuses every other request, and keeps what was said.

    Attach it to a fresh context before the page is opened.
    """

    def __init__(self, url: str, html: str, kill: Callable[[], None]) -> None:
        self.url = url
        self._html = html.encode("utf-8", "replace")  # a lone surrogate is no character in any encoding
        self._served = False
        self.heard = Heard()
        self.crashed = False
        self._kill = kill

    async def attach(self, context: BrowserContext) -> None:
        """Take over the context's requests and events."""
        await context.route("**/*", self._answer)
        context.on("page", self._opened)

    def watch(self, page: Page) -> None:
        """Listen to the main page."""
        page.on("pageerror", self._error)
        page.on("framenavigated", lambda _frame: self._count("navigations"))
        page.on("console", self._console)
        page.on("crash", self._crash)
        page.on("websocket", self._websocket)
        page.on("dialog", self._dialog)

    async def _answer(self, route: Route, request: Request) -> None:
        self._count("requests")
        with contextlib.suppress(Exception):  # the page may be gone by now
            main = request.is_navigation_request() and request.frame.parent_frame is None
            if main and not self._served and request.url == self.url:
                self._served = True
                await route.fulfill(status=200, content_type="text/html; charset=utf-8", body=self._html)
            elif main:
                # "No content" keeps the page as it stands; an aborted navigation would replace it by an error page.
                self.heard.left_for = self.heard.left_for or request.url[:LINE]
                await route.fulfill(status=204, body="")
            else:
                self.heard.refuse(request.url, request.resource_type)
                await route.abort("internetdisconnected")

    async def _opened(self, page: Page) -> None:
        """Close whatever the page opens; a page of our own is opened by the visit and has no opener."""
        self._count("windows")
        with contextlib.suppress(Exception):
            if await page.opener() is not None:
                await page.close()

    def _count(self, what: str) -> None:
        """Stop a page that floods the pipe to its browser: all that the browser still says queues behind that."""
        if self.heard.count(what):
            self._kill()

    def _error(self, error: Error) -> None:
        self._count("uncaught errors")
        # "    at https://page.test/:12:5", or "(https://page.test/:12:5)" with the function's name before it.
        place = re.search(rf"{re.escape(self.url)}(?:[?#][^\s)]*?)?:(\d+):(\d+)\)?$", error.stack or "", re.MULTILINE)
        line, column = (int(place[1]), int(place[2])) if place else (0, 0)
        self.heard.fail(ScriptError(str(error), error.name or "", line, column))

    def _console(self, message: ConsoleMessage) -> None:
        self._count("console messages")
        if message.type == "error":
            self.heard.say(message.text)

    def _crash(self, _page: Page) -> None:
        self.crashed = True

    def _websocket(self, socket: WebSocket) -> None:
        self.heard.refuse(socket.url, "websocket")

    async def _dialog(self, dialog: Dialog) -> None:
        with contextlib.suppress(Exception):
            await dialog.dismiss()
