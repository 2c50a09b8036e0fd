"""`generate`: the page for one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    DataOption,
    DTypeOption,
    ProfileOption,
    QuantizationOption,
    SplitOption,
    TrainOnOption,
    WeightsOption,
    one_model_config,
)
from harness.errors import HarnessError, UsageError
from harness.types import Page, Task

if TYPE_CHECKING:
    from harness.progress import ProgressReporter


def generate(
    prompt: Annotated[str, typer.Argument(help="What the page should be.")],
    model: Annotated[str, typer.Option(help="A model file of the profile, or a model or adapter folder.")] = "tuned",
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    train_on: TrainOnOption = None,
    data: DataOption = None,
    split: SplitOption = None,
    quantization: QuantizationOption = None,
    dtype: DTypeOption = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", help="A page to be changed, put beside the prompt.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the page to this file.")] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Render it in the closed browser and show the screenshot.")
    ] = False,
) -> None:
    """Write the page for one prompt, as a user of the model gets it."""
    from rich.console import Console

    from harness.metrics.extract import extract
    from harness.pipeline.config import resolve
    from harness.pipeline.prepare import prepare
    from harness.pipeline.run import proved
    from harness.progress import ProgressReporter
    from harness.storage.outputs import check_output, write_output

    if not prompt.strip():
        raise UsageError("the prompt is empty", 'for example: generate "A page with a login form"')
    if out is not None:
        check_output(out)
    reporter = ProgressReporter(Console(stderr=True))
    config = one_model_config(model, weights, profile, train_on, data, split, quantization, dtype)
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
    import tempfile
    import webbrowser

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
