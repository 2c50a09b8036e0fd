"""The renderer as other modules call it: synchronous, from any thread, lazily fed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from harness.render.browser import find_browser
from harness.render.cache import RenderCache
from harness.render.pool import Pool
from harness.render.settings import RenderRequest, RenderSettings, worker_count
from harness.types import Rendering

T = TypeVar("T")
OnDone = Callable[[RenderRequest, Rendering], None]


class Renderer:
    """Browsers that stay warm between calls.

    Use it as a context manager. The browsers start with the first page that is not in the cache and are gone, with
    their temporary files, when the block is left, however it is left.

    Args:
        settings: how pages are measured.
        cache_dir: the folder under which renderings are kept by content; None keeps none.

    Raises:
        HarnessError: no browser was found.
    """

    def __init__(self, settings: RenderSettings | None = None, cache_dir: Path | None = None) -> None:
        self.settings = settings or RenderSettings()
        self.browser = find_browser()
        self._cache = RenderCache(cache_dir, self.settings, self.browser) if cache_dir is not None else None
        self._pool: Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def render(self, requests: Iterable[RenderRequest], on_done: OnDone | None = None) -> dict[str, Rendering]:
        """Measure pages and return their renderings by key.

        `requests` is read only as fast as pages are finished. `on_done` is called in this thread as each finishes, in
        no fixed order; with it the screenshots are handed there and left out of what is returned, so that thousands of
        pages need little memory. A page never raises: a fault of ours is the outcome `unscored` with its reason.

        Raises:
            HarnessError: the browser cannot be started at all.
        """
        done: dict[str, Rendering] = {}
        pending: dict[Future[Rendering], RenderRequest] = {}
        window = 2 * worker_count(self.settings)

        def finish(most: int) -> None:
            """Wait until at most so many pages are not finished."""
            while len(pending) > most:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    request, rendering = pending.pop(future), future.result()
                    if on_done is not None:
                        on_done(request, rendering)
                        rendering = replace(rendering, screenshots={})
                    done[request.key] = rendering

        try:
            for request in requests:
                pending[self.submit(request)] = request
                finish(window - 1)
            finish(0)
        finally:
            for future in pending:
                future.cancel()
        return done

    def submit(self, request: RenderRequest) -> Future[Rendering]:
        """Begin to measure a page, and do not wait for it; pages are finished about in the order of their submission.

        Raises:
            HarnessError: the browser cannot be started at all.
        """
        kept = self._cache.load(request) if self._cache is not None else None
        if kept is None:
            pool, loop = self._started()
            return asyncio.run_coroutine_threadsafe(self._render(pool, request), loop)
        future: Future[Rendering] = Future()
        future.set_result(kept)
        return future

    async def _render(self, pool: Pool, request: RenderRequest) -> Rendering:
        rendering = await pool.render(request, self._cache)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.store_checks, request, rendering)
        return rendering

    def close(self) -> None:
        """Stop the browsers; calling it again does nothing."""
        with self._lock:
            loop, thread, pool = self._loop, self._thread, self._pool
            self._loop = self._thread = self._pool = None
        if loop is None or thread is None:
            return
        if pool is not None:
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(pool.close(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)

    @property
    def peak_memory(self) -> int:
        """Largest resident memory of all browsers together so far, in bytes."""
        return self._pool.peak_memory if self._pool else 0

    def _started(self) -> tuple[Pool, asyncio.AbstractEventLoop]:
        with self._lock:
            if self._pool is None or self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon: if the block is never left, the interpreter ends all the same and the janitor clears up.
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="renderer", daemon=True)
                self._thread.start()
                pool = Pool(self.settings, self.browser)
                self._pool = pool
                asyncio.run_coroutine_threadsafe(pool.start(), self._loop).result(timeout=60)
            return self._pool, self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def render_pages(
    requests: Iterable[RenderRequest],
    settings: RenderSettings | None = None,
    on_done: OnDone | None = None,
    cache_dir: Path | None = None,
) -> dict[str, Rendering]:
    """Measure pages with browsers of their own; see `Renderer.render`."""
    with Renderer(settings, cache_dir) as renderer:
        return renderer.render(requests, on_done)


def render_html(pages: Sequence[str]) -> list[Rendering]:
    """Return what a renderer of its own measures on each page, in their order.

    Raises:
        HarnessError: there is no browser.
    """
    found = render_pages(RenderRequest(f"page{number}", page) for number, page in enumerate(pages))
    return [found[f"page{number}"] for number in range(len(pages))]
