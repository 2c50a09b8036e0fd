"""`generate`: the page for one prompt."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.errors import HarnessError, UsageError
from harness.metrics.extract import extract
from harness.model.profile_schema import Quantization
from harness.pipeline.config import RunConfig, parse_data_options, resolve
from harness.pipeline.prepare import prepare
from harness.pipeline.run import proved
from harness.progress import ProgressReporter
from harness.storage.outputs import check_output, write_output
from harness.types import Page, Task


def generate_page(
    prompt: str,
    *,
    model: str,
    profile: str | None,
    data: Sequence[str],
    input_file: Path | None,
    out: Path | None,
    open_page: bool,
    quantization: Quantization | None,
    split: Sequence[str] = (),
) -> None:
    """Generate one page; print it, or write it to `out`, and show its screenshot if asked.

    Raises:
        UsageError: a word means nothing or a file is missing.
        HarnessError: the model wrote no page, or it cannot be shown.
    """
    if not prompt.strip():
        raise UsageError("the prompt is empty", 'for example: generate "A page with a login form"')
    if out is not None:
        check_output(out)
    reporter = ProgressReporter(Console(stderr=True))
    config = RunConfig(
        models=(model,),
        profile=profile,
        data=parse_data_options(data),
        split=tuple(split),
        quantization=quantization,
    )
    plan = resolve(config, models_only=True)
    candidate = proved(prepare(plan, reporter)[-1:], reporter)[0]
    task = Task(id="generate", prompt=prompt, input=_read(input_file))
    with reporter.stage(f"{model} answers"):
        completion = candidate.generator.complete([task])[0]
    page = extract(completion.text, completion.finish_reason)
    if not page.found:
        raise HarnessError(
            f"the model wrote {page.note or 'no page'}: {completion.text.strip():.200}", "try another prompt"
        )
    if page.truncated:
        reporter.say(f"the page is cut off: the model ended by '{completion.finish_reason}'")
    if out is not None:
        write_output(out, page.html)
        reporter.say(f"written to {out}")
    else:
        Console().print(page.html, markup=False, highlight=False, soft_wrap=True)
    if open_page:
        _show(page, reporter)


def _read(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}", "check the path after --input") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", "save it as UTF-8") from None


def _show(page: Page, reporter: ProgressReporter) -> None:
    """Show a picture, not the page: what a model wrote is not opened in the user's own browser."""
    from harness.render import RenderRequest, render_pages

    rendering = render_pages([RenderRequest("page", page.html)])["page"]
    reporter.say(f"in the browser: {rendering.outcome} {rendering.detail}".rstrip())
    picture = rendering.screenshots.get("desktop")
    if picture is None:
        raise HarnessError(f"there is no picture of this page: {rendering.outcome}", rendering.detail)
    with tempfile.NamedTemporaryFile(prefix="page-", suffix=".png", delete=False) as file:
        file.write(picture)
    reporter.say(f"screenshot: {file.name}")
    webbrowser.open(Path(file.name).as_uri())
