"""What several commands share: options declared once, the panels of the help, and words that are lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UsageError
from harness.types import Quantization

if TYPE_CHECKING:
    from harness.pipeline.config import RunConfig

MEASURE = "Measure"
LOOK = "Look at results"
MODELS_AND_SUITES = "Models and suites"
MACHINE = "This machine"
MACHINES = "Several machines"

PROGRAM = "python -m harness"
"""How the harness is called where no command line says it."""

ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", help="A profile's name. Default: llama-2-7b with a GPU, else smollm2-135m."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="ID|FOLDER|FILE.gguf",
        help="Any causal language model of the hub or the disk, in place of a profile: base, base-fewshot, tuned.",
    ),
]
TrainOnOption = Annotated[
    str | None,
    typer.Option(
        "--train-on",
        metavar="SUITE",
        help="What tuned learns from where its file names no suite. Default: the training part of the measured suite.",
    ),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="SUITE=FILE",
        help="Take a suite's rows from a file: JSONL, JSON, CSV, TSV (any delimiter), Parquet, Arrow, Feather or YAML.",
    ),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option("--split", metavar="NAME|SUITE=NAME", help="Another split of a suite than its default."),
]
QuantizationOption = Annotated[
    Quantization | None,
    typer.Option("--quantization", help="4 bit by bitsandbytes, or none. Default: the profile's."),
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Measure so many held-out tasks, stratified.")]
FullOption = Annotated[bool, typer.Option("--full", help="Measure all held-out tasks.")]
RunNameOption = Annotated[str | None, typer.Option("--name", help="Name of the run. Default: date and hash.")]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        rich_help_panel=MACHINES,
        help="A Ray cluster, or `auto`. Default: one here, for the run.",
    ),
]
TrainedModelArgument = Annotated[str, typer.Argument(help="A model file of the profile with `train:`.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A folder under reports/.")]
KindsOption = Annotated[str | None, typer.Option("--kind", metavar="KIND,…", help="Only of these kinds.")]


def words(text: str | None, option: str) -> tuple[str, ...]:
    """Return the words of an option that takes several, separated by commas; none where it was not given.

    Raises:
        UsageError: it was given without a word.
    """
    if text is None:
        return ()
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise UsageError(f"{option} is empty", "name at least one, separated by commas")
    return found


def one_model_config(
    model: str,
    weights: str | None,
    profile: str | None,
    train_on: str | None,
    data: list[str] | None,
    split: list[str] | None,
    quantization: Quantization | None,
) -> RunConfig:
    """Return the configuration of a command for one model.

    Raises:
        UsageError: an option of `--data` has another form than SUITE=FILE, or its file is missing.
    """
    from harness.pipeline.config import RunConfig
    from harness.pipeline.data_option import parse_data_options

    return RunConfig(
        models=(model,),
        weights=() if weights is None else (weights,),
        profile=profile,
        train_on=train_on,
        data=parse_data_options(data or ()),
        split=tuple(split or ()),
        quantization=quantization,
    )


def program(context: typer.Context) -> str:
    """Return the name that the harness was called by, such as `html-harness` or `python -m harness`."""
    return context.find_root().info_name or PROGRAM
