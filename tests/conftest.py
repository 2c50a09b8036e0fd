"""What several test folders share: a cache of the session's own, the embedded model, and a tiny Llama."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from harness.model.load import LoadedModel
    from harness.model.profile import Profile

ROOT = Path(__file__).parents[1]
gc.disable()  # what is loaded while tests are collected stays: to look for garbage in it took two fifths of the time


_loaded = 0
"""Modules at the last freeze; 0 where a training has thawed all since, as it does at its end."""
_unfreeze = gc.unfreeze


def pytest_collection_finish() -> None:
    """Let the collector see only what the tests themselves leave behind."""
    leave_out()
    gc.enable()


def pytest_runtest_setup() -> None:
    """Leave out what tests have loaded since, too: each training asks for a collection, which took 0.3 s with it."""
    if len(sys.modules) > _loaded + 100:
        gc.collect()
        leave_out()


def leave_out() -> None:
    """Keep all that is there now out of garbage collections."""
    global _loaded
    _loaded = len(sys.modules)
    gc.freeze()


def thawed() -> None:
    """Stands in for `gc.unfreeze`, which some trainings call at their end."""
    global _loaded
    _loaded = 0
    _unfreeze()


gc.unfreeze = thawed


# how fast examples come says something of the machine, not of the code
settings.register_profile("harness", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("harness")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) - 1:
    # threads of one product wait for each other where another process holds a core: ten times slower on two cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // (workers + 1))))


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache out of the tests; HARNESS_TEST_CACHE names one that lasts from session to session."""
    with pytest.MonkeyPatch.context() as patch:
        if "HARNESS_VNU_JAR" not in os.environ:
            from harness.metrics.nu import find_nu

            checker = find_nu()  # it may lie in the user's cache, which is out of sight from here on
            if checker is not None:
                patch.setenv("HARNESS_VNU_JAR", str(checker.jar))
        if "HARNESS_EMBEDDED_MODEL" not in os.environ:
            from harness.setup.embedded import embedded_gguf, embedded_model

            gguf = embedded_gguf()
            if gguf is not None and (file := embedded_model(gguf)):
                patch.setenv("HARNESS_EMBEDDED_MODEL", file)
        patch.setenv("HARNESS_CACHE", os.environ.get("HARNESS_TEST_CACHE") or str(new_cache(tmp_path_factory)))
        if "NODE_COMPILE_CACHE" not in os.environ:  # dozens of drivers of browsers start, each of 7 MB of JavaScript
            patch.setenv("NODE_COMPILE_CACHE", str(of_all_processes(tmp_path_factory) / "node"))
        from harness.storage.cache import cache_folder

        yield cache_folder()


KEPT = ("weights", "proofs", "renders", "compiled")
"""What in a cache stands under all that it depends on, the code too, and takes long to make."""


def new_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this process alone but for what is `KEPT`, which a session's processes make once for all of them."""
    cache = tmp_path_factory.mktemp("cache")
    if "PYTEST_XDIST_WORKER" in os.environ:
        keep(cache, of_all_processes(tmp_path_factory) / "kept")
    return cache


def of_all_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder that a session's processes have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def keep(cache: Path, where: Path) -> None:
    """Let what is `KEPT` of a new cache lie in another folder."""
    for name in KEPT:
        (where / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(where / name, target_is_directory=True)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    folder = tmp_path / "own-cache"
    monkeypatch.setenv("HARNESS_CACHE", str(folder))
    return folder


@pytest.fixture
def own_answers(own_cache: Path, cache_of_the_session: Path) -> Path:
    """A cache for one test without trainings and answers, but with what is `KEPT` in the session's."""
    own_cache.mkdir()
    keep(own_cache, cache_of_the_session)
    return own_cache


@pytest.fixture(scope="session")
def embedded_profile() -> Profile:
    from harness.model.profile import load_profile

    return load_profile("smollm2-135m", ROOT / "baselines")


@pytest.fixture(scope="session")
def embedded_folder(embedded_profile: Profile) -> Path:
    """The embedded model, converted once in a session."""
    from harness.errors import HarnessError
    from harness.model.weights import fetch_weights

    try:
        return fetch_weights(embedded_profile.file.weights).folder
    except HarnessError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def embedded(embedded_folder: Path) -> LoadedModel:
    """The embedded model in fp32. Tests leave it without an adapter switched on."""
    return load_fp32(embedded_folder)


@pytest.fixture(scope="session")
def shallow_folder(embedded_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model without its 24 layers in the middle: its shapes, numbers and words at a third of its cost.

    What it writes is nonsense that differs from prompt to prompt and token to token.
    """
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("shallow")
    model = AutoModelForCausalLM.from_pretrained(embedded_folder, dtype=torch.float32)
    del model.model.layers[3:-3]
    model.config.num_hidden_layers = len(model.model.layers)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(embedded_folder / name, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of Llama's shape with a small tokenizer of its own and no chat template, trained in a second."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,  # tied random weights would only echo the last token
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def small_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that has learnt from the starter suite: the embedded one's 49,152 tokens cost seconds."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learnt.decoder = decoders.ByteLevel()
    special, alphabet = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2048, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    files = sorted((ROOT / "tasks" / "html_starter").rglob("*.yaml"))
    learnt.train_from_iterator((file.read_text("utf-8") for file in files), trainer)
    ends = {"bos_token": special[1], "eos_token": special[2], "pad_token": special[2], "unk_token": special[0]}
    return PreTrainedTokenizerFast(tokenizer_object=learnt, **ends)


@pytest.fixture
def tiny(tiny_folder: Path) -> LoadedModel:
    """The tiny model in fp32, new for each test."""
    return load_fp32(tiny_folder)


def load_fp32(folder: Path) -> LoadedModel:
    """The model in that folder, as a run on a CPU loads it."""
    from harness.model.load import Precision, load_model
    from harness.model.profile_schema import Weights

    return load_model(Weights(folder=str(folder)), Precision("none", "float32", "cpu"))


TINY_PROFILE = """\
title: Tiny
weights: {{folder: {weights}}}
prompt: |-
  Write a page: {{{{ prompt }}}}{{% if input %}} {{{{ input }}}}{{% endif %}}
chat: false
dtype: float32
max_new_tokens: 24
batch_size: 2
suites: [small]
"""
TINY_TUNED = """\
train:
  sft:
    max_steps: 4
    save_steps: 1
    per_device_train_batch_size: 2
    learning_rate: 1.0e-2
    gradient_checkpointing: false
  lora: {r: 4, target_modules: all-linear}
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the repository's own tasks/ and baselines/."""
    for name in ("tasks", "baselines"):
        shutil.copytree(ROOT / name, tmp_path / "work" / name)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def tiny_workplace(workplace: Path, tiny_folder: Path) -> Path:
    """A working folder with the profile `tiny` and the suite `small`: eight training and six held-out tasks."""
    profile = workplace / "baselines" / "tiny"
    profile.mkdir()
    (profile / "profile.yaml").write_text(TINY_PROFILE.format(weights=tiny_folder))
    (profile / "base.yaml").write_text("description: As made.\n")
    (profile / "base-fewshot.yaml").write_text("few_shot: 2\n")
    (profile / "tuned.yaml").write_text(TINY_TUNED)
    make_suite(workplace / "tasks" / "small", train=8, held_out=6)
    return workplace


SUBJECTS = (
    ("bakery", "the opening hours of a bakery", "<table><tr><th>Day</th></tr><tr><td>Monday</td></tr></table>"),
    ("garden", "five vegetables that grow in the shade", "<ol><li>Spinach</li><li>Kale</li><li>Cress</li></ol>"),
    ("letter", "an answer to a letter from a lawyer", "<article><h2>Dear Madam</h2><p>Thank you.</p></article>"),
    ("search", "one field to look for a train", "<form><label>From <input name=from></label></form>"),
    ("poem", "a poem about rain in four lines", "<pre>Rain falls\non tin</pre>"),
    ("film", "credits of a film with its director", "<dl><dt>Director</dt><dd>Anna Berg</dd></dl>"),
    ("quote", "what Ada said about engines", "<blockquote>It weaves</blockquote>"),
    ("code", "a shell command that lists files", "<p>Type <kbd>ls</kbd> and press <kbd>Enter</kbd></p>"),
    ("museum", "entrance fees for children and adults", "<ul><li>Adults: 9</li><li>Children: free</li></ul>"),
    ("menu", "links to three parts of a shop", "<nav><a href=a>Shoes</a> <a href=b>Hats</a></nav>"),
    ("alarm", "a warning that the lift is broken", "<div role=alert><strong>Out of order</strong></div>"),
    ("map", "the way from the station to the hall", "<section><h2>Way</h2><p>Left, then right.</p></section>"),
    ("score", "how the match between two clubs ended", "<p><b>3</b> to <b>1</b></p><footer>Full time</footer>"),
    ("recipe", "how to boil an egg for six minutes", "<main><h1>Egg</h1><p>Wait <time>6m</time></p></main>"),
)


def make_suite(folder: Path, train: int, held_out: int) -> None:
    """Write a suite of tasks that do not resemble one another, already split."""
    import yaml

    folder.mkdir(parents=True)
    rows = [
        {
            "id": name,
            "category": "even" if number % 2 == 0 else "odd",
            "prompt": f"Show {what}.",
            "reference": f'<!DOCTYPE html><html lang="en"><head><title>{name}</title></head><body>{body}</body></html>',
        }
        for number, (name, what, body) in enumerate(SUBJECTS[: train + held_out])
    ]
    (folder / "suite.yaml").write_text("title: Small\nfiles: {train: [train.yaml], held_out: [held_out.yaml]}\n")
    (folder / "train.yaml").write_text(yaml.safe_dump(rows[:train]))
    (folder / "held_out.yaml").write_text(yaml.safe_dump(rows[train:]))


CommandLine = Callable[..., tuple[int, str, str]]


@cache
def known_commands() -> Callable[[Any], Any]:
    """Return what makes commands of functions, and remembers them: a process of its own does it once."""
    import typer.main

    return cache(typer.main.get_command)


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Runs the command line in this process; returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        from harness.cli import main

        monkeypatch.setattr("typer.main.get_command", known_commands())
        monkeypatch.setattr("sys.argv", ["harness", *arguments])
        monkeypatch.setattr("__main__.__package__", None, raising=False)  # `python -m pytest` is not what calls it
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return int(code), said.out, said.err

    return call


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., Any]]:
    """Starts a real Chromium with further arguments; all are closed at the end."""
    from playwright.sync_api import sync_playwright

    found = os.environ.get("HARNESS_CHROMIUM") or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        path = found or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium here: install chromium, or name one in HARNESS_CHROMIUM")
        browsers = []

        def start(*arguments: str) -> Any:
            browsers.append(
                playwright.chromium.launch(executable_path=path, args=[*arguments, *(["--no-sandbox"] if root else [])])
            )
            return browsers[-1]

        yield start
        for browser in browsers:
            browser.close()


@pytest.fixture(scope="session")
def browser(launch: Callable[..., Any]) -> Any:
    """A real Chromium without further arguments; each test closes the pages that it opens."""
    return launch()


@pytest.fixture(scope="session")
def nu_choice() -> Any:
    from harness.metrics import nu

    choice = nu.find_nu()
    if choice is None:
        pytest.skip(f"the Nu Html Checker is not installed: {nu.INSTALL_HINT}")
    return choice
