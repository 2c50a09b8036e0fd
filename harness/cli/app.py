"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from harness import __version__
from harness.cli.setup import setup
from harness.errors import Interrupted

if TYPE_CHECKING:
    from harness.model.profile_schema import Quantization

_RESUMABLE = ("run", "train", "score", "audit", "judge", "report", "suites", "setup")
"""Commands that keep what they have done, so that the same words take it up."""


class _Commands(TyperGroup):
    """The commands; Ctrl-C in one of them is said, where typer would end without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(ctx.invoked_subcommand in _RESUMABLE) from None


app = typer.Typer(
    name="harness",
    cls=_Commands,
    help="Settles whether a fine-tuned model really writes better HTML.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
suites_app = typer.Typer(help="List, check and make task suites.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(suites_app, name="suites")
cache_app = typer.Typer(help="Show what lies in the cache, and free it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(cache_app, name="cache")

ProfileOption = Annotated[
    Optional[str],  # noqa: UP045  # typer reads the annotation at run time
    typer.Option("--profile", help="A folder under baselines/. Default: llama-2-7b with a GPU, else smollm2-135m."),
]
DataOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--data", help="SUITE=FILE: read a suite's rows from a JSONL, JSON, CSV or Parquet file."),
]
SplitOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--split", help="NAME, or SUITE=NAME: another split of a suite than its default."),
]
QuantizationOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--quantization", help="none or nf4 (4 bit by bitsandbytes); default: the profile's."),
]
AddressOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--address", help="A Ray cluster: HOST:PORT, or auto. Default: one on this machine, for the run."),
]


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.command()
def run(
    models: Annotated[
        str, typer.Option(help="Model files of the profile, profile/model paths, or model and adapter folders.")
    ] = "base,base-fewshot,tuned",
    profile: ProfileOption = None,
    suites: Annotated[
        Optional[str], typer.Option(help="Names or folders of suites. Default: the profile's.")  # noqa: UP045
    ] = None,
    data: DataOption = None,
    split: SplitOption = None,
    limit: Annotated[Optional[int], typer.Option(help="Measure so many held-out tasks, stratified.")] = None,  # noqa: UP045
    full: Annotated[bool, typer.Option("--full", help="Measure all held-out tasks.")] = False,
    name: Annotated[Optional[str], typer.Option(help="Name of the run; default: date and hash.")] = None,  # noqa: UP045
    samples: Annotated[int, typer.Option(min=1, help="Completions for each task; needs --temperature.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    seeds: Annotated[int, typer.Option(min=1, help="Fine-tune so many times with different seeds.")] = 1,
    quantization: QuantizationOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Generate anew what the store already holds.")] = False,
    shard: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="I/N", help="Measure the I-th of N parts; `report RUN` puts the parts together."),
    ] = None,
    check_batch: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Also decode N tasks alone, to count answers that depend on the batch."),
    ] = 0,
    executor: Annotated[str, typer.Option(help="local, or ray: on the machines of a Ray cluster.")] = "local",
    address: AddressOption = None,
    actors: Annotated[
        str,
        typer.Option(metavar="NAME=N,…", help="Ray's workers: models, gpus and cpus of each, scorers, browsers."),
    ] = "",
) -> None:
    """Fine-tune, generate, score, compare and report. The same command again goes on where it was."""
    from harness.cluster.actors import parse_actors, parse_executor
    from harness.pipeline.config import RunConfig, parse_data_options
    from harness.pipeline.run import run as run_all
    from harness.runs.shard import parse_shard

    run_all(
        RunConfig(
            models=_words(models, "--models"),
            profile=profile,
            suites=_words(suites, "--suites") if suites is not None else (),
            data=parse_data_options(data or []),
            split=tuple(split or ()),
            limit=limit,
            full=full,
            name=name,
            samples=samples,
            temperature=temperature,
            seeds=seeds,
            fresh=fresh,
            quantization=_quantization(quantization),
            shard=parse_shard(shard) if shard is not None else None,
            check_batch=check_batch,
            executor=parse_executor(executor),
            address=address,
            actors=parse_actors(actors),
        )
    )


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the page should be.")],
    model: Annotated[str, typer.Option(help="A model file of the profile, or a model or adapter folder.")] = "tuned",
    profile: ProfileOption = None,
    data: DataOption = None,
    split: SplitOption = None,
    input_file: Annotated[
        Optional[Path], typer.Option("--input", help="A page to be changed, put beside the prompt.")  # noqa: UP045
    ] = None,
    out: Annotated[Optional[Path], typer.Option("--out", help="Write the page to this file.")] = None,  # noqa: UP045
    open_page: Annotated[
        bool, typer.Option("--open", help="Render it in the closed browser and show the screenshot.")
    ] = False,
    quantization: QuantizationOption = None,
) -> None:
    """Write the page for one prompt, as a user of the model gets it."""
    from harness.cli.generate import generate_page

    generate_page(
        prompt,
        model=model,
        profile=profile,
        data=data or [],
        split=split or [],
        input_file=input_file,
        out=out,
        open_page=open_page,
        quantization=_quantization(quantization),
    )


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A model file of the profile with `train:`.")] = "tuned",
    profile: ProfileOption = None,
    data: DataOption = None,
    split: SplitOption = None,
    out: Annotated[Optional[Path], typer.Option("--out", help="Also copy the adapter to this folder.")] = None,  # noqa: UP045
    quantization: QuantizationOption = None,
    push: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--push", metavar="REPO", help="Put the adapter onto the hub."),
    ] = None,
    merge: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--merge", metavar="FOLDER", help="Export a merged 16-bit model and measure it again."),
    ] = None,
) -> None:
    """Fine-tune a model of the profile, or find it in the cache, and say where its adapter lies."""
    from harness.cli.train import train_model

    train_model(
        model,
        profile=profile,
        data=data or [],
        split=split or [],
        out=out,
        quantization=_quantization(quantization),
        push=push,
        merge=merge,
    )


@app.command()
def plan(
    model: Annotated[str, typer.Argument(help="A model file of the profile with `train:`.")] = "tuned",
    profile: ProfileOption = None,
    gpu: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--gpu", help="t4, l4, a10, a100 or h100; default: this machine's."),
    ] = None,
) -> None:
    """Say what a training would fetch, how much GPU memory it would take and how fast it would be."""
    from harness.cli.train import plan_training

    plan_training(model, profile=profile, gpu=gpu)


@app.command()
def score(
    suite: Annotated[str, typer.Argument(help="The name or folder of the suite that was answered.")],
    outputs: Annotated[
        Path, typer.Argument(metavar="OUTPUTS.jsonl", help='A line each: {"task", "completion", "model"?, "sample"?}.')
    ],
    data: DataOption = None,
    split: SplitOption = None,
    limit: Annotated[Optional[int], typer.Option(help="Measure so many held-out tasks, stratified.")] = None,  # noqa: UP045
    full: Annotated[bool, typer.Option("--full", help="Measure all held-out tasks.")] = False,
    name: Annotated[Optional[str], typer.Option(help="Name of the run; default: date and hash.")] = None,  # noqa: UP045
) -> None:
    """Score, compare and report completions made elsewhere."""
    from harness.cli.score import score_outputs

    score_outputs(suite, outputs, data=data or [], split=split or [], limit=limit, full=full, name=name)


PagesArgument = Annotated[
    # one that cannot be read gets its line beside the others' measures, so it is no error of usage
    list[Path], typer.Argument(help="HTML files, or folders of them.", readable=False)
]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command()
def audit(pages: PagesArgument, as_json: JsonLinesOption = False) -> None:
    """Measure any HTML files with the page scorers; no model is needed."""
    from harness.scoring.pages import audit_files

    raise typer.Exit(audit_files(pages, typer.echo, as_json))


@app.command(hidden=True)
def judge(pages: PagesArgument, as_json: JsonLinesOption = False) -> None:
    """Do what `audit` does, under its name of before."""
    typer.echo("`judge` is now called `audit`; the old name goes with the next version", err=True)
    audit(pages, as_json)


@app.command()
def compare(
    left: Annotated[str, typer.Argument(metavar="RUN[:MODEL]", help="A run or a frozen summary.")],
    right: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="RUN[:MODEL]", help="Left out: within one run, the pair of its verdict."),
    ] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with 100 when a rule does not hold.")] = False,
    rules: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Rules of the gate, or a file of them. Default: no primary metric is worse."),
    ] = None,
    junit: Annotated[Optional[Path], typer.Option(help="Write the gate as JUnit XML.")] = None,  # noqa: UP045
    markdown: Annotated[Optional[Path], typer.Option(help="Write a Markdown summary.")] = None,  # noqa: UP045
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Keep the scores of LEFT under baselines/scores/ instead.")
    ] = False,
) -> None:
    """Compare two models task by task, within a run or across runs."""
    from harness.compare.command import run_compare_command, run_freeze_command

    if freeze:
        typer.echo(f"written to {run_freeze_command(left)}")
        return
    code = run_compare_command(
        left,
        right,
        gate_rules=(rules or "") if gate or rules is not None else None,
        junit_file=junit,
        markdown_file=markdown,
        say=typer.echo,
    )
    raise typer.Exit(code)


@app.command()
def report(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A folder under reports/.")],
    single_file: Annotated[bool, typer.Option("--single-file", help="One file for mail, pictures inside.")] = False,
    export: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Also write csv, parquet, latex, markdown, model-card (separated by commas)."),
    ] = None,
) -> None:
    """Write a run's report again, print its answer, and export its numbers."""
    from harness.cli.report import report_run

    report_run(run_name, single_file=single_file, formats=_words(export, "--export") if export is not None else ())


@app.command()
def vote(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="A folder under reports/.")],
    pair: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The two models, separated by a comma. Default: the run's first comparison."),
    ] = None,
    voter: Annotated[str, typer.Option(help="Who votes, where several people do: each judges every pair.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 0,
) -> None:
    """Judge pairs of pages blindly in the browser; the report then shows the agreement of people and metrics."""
    from harness.cli.report import vote_on_run

    vote_on_run(run_name, pair=_words(pair, "--pair") if pair is not None else None, voter=voter, port=port)


@app.command()
def doctor(address: AddressOption = None) -> None:
    """Say what this machine has, what is missing, and what to type to get it; with --address, of all nodes."""
    from harness.cli.doctor import examine, examine_nodes

    code = examine()
    raise typer.Exit(code if address is None else max(code, examine_nodes(address)))


app.command()(setup)


@suites_app.command("list")
def suites_list() -> None:
    """List the suites under tasks/."""
    from harness.cli.suites import list_suites

    list_suites()


@suites_app.command("check")
def suites_check(
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[SUITE]", help="A name or folder. Default: all whose rows are on this disk."),
    ] = None,
    data: DataOption = None,
    split: SplitOption = None,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Test the metrics on so many tasks; the rest is checked of all."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", help="Also write the findings to this file."),
    ] = None,
) -> None:
    """Check references, checks, split and metrics of a suite; exit with 1 when there are tasks to fix."""
    from harness.cli.suites import check_suites

    raise typer.Exit(check_suites(suite, data=data or [], split=split or [], limit=limit, json_file=json_file))


@suites_app.command("new")
def suites_new(
    name: Annotated[str, typer.Argument(help="The suite's name; a folder of that name is made.")],
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", metavar="FILE|HUB-ID", help="A JSONL, JSON, CSV, Parquet or YAML file, or a hub id."),
    ] = None,
    folder: Annotated[Path, typer.Option("--to", help="Where the suite's folder is made.")] = Path("tasks"),
) -> None:
    """Write a commented suite.yaml, from a data file with its columns guessed, or with two tasks to begin from."""
    from harness.cli.suites import new_suite

    new_suite(name, source, folder)


@cache_app.command("list")
def cache_list(
    kind: Annotated[Optional[str], typer.Option(help="Only of these kinds, separated by commas.")] = None,  # noqa: UP045
) -> None:
    """List converted weights, adapters, answers, renderings and the rest: size, age, and what each belongs to."""
    from harness.cli.cache import list_cache

    list_cache(_words(kind, "--kind") if kind is not None else ())


@cache_app.command("prune")
def cache_prune(
    kind: Annotated[Optional[str], typer.Option(help="Only of these kinds, separated by commas.")] = None,  # noqa: UP045
    older_than: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="AGE", help="Only what was written longer ago, such as 30d, 12h or 4w."),
    ] = None,
    larger_than: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SIZE", help="Only what takes more, such as 500MB."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove cached things; what is needed again is made again. Files that are not the harness' own stay."""
    from harness.cli.cache import prune_cache

    kinds = _words(kind, "--kind") if kind is not None else ()
    prune_cache(kinds, older_than=older_than, larger_than=larger_than, yes=yes)


def _words(text: str, option: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words:
        from harness.errors import UsageError

        raise UsageError(f"{option} is empty", "name at least one, separated by commas")
    return words


def _quantization(word: str | None) -> Quantization | None:
    if word is None:
        return None
    if word == "none":
        return "none"
    if word == "nf4":
        return "nf4"
    from harness.errors import UsageError, did_you_mean

    raise UsageError(f"there is no quantization '{word}'", did_you_mean(word, ["none", "nf4"]))
