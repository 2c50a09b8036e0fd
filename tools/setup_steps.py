"""Sets the harness up from nothing: virtual environment and packages, then what `html-harness setup` fetches.

Run by `make` through setup.py. Needs only Python 3.11 or newer. What is done is not done again; a step that was cut off
is taken up by the next call. A browser is fetched while the packages are.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from browser_meanwhile import BrowserMeanwhile
from commands import ROOT, begin, follow, last_line, run
from installer import Installer
from ready_stamp import ReadyStamp
from venv_folder import FolderRefused, claim, may_use, remove, venv_folder, venv_python

VENV = venv_folder(ROOT)
PYTHON = venv_python(VENV)
KEEPS_ITS_VERSIONS = False
"""A Python that holds other people's packages (a notebook's torch and torchvision are a pair) is not constrained."""
CONSTRAINTS = ROOT / "constraints.txt"
"""The exact versions that are installed, so that a new release of a dependency changes nothing before it is raised."""
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"

PACKAGES = ".harness-packages"
"""The stamp of the installed packages, in the environment."""
_INSTALLING = ("setup_steps.py", "installer.py")
_SLOWEST = (
    "transformers.models.llama.modeling_llama, transformers.generation, trl.trainer.sft_trainer, peft, datasets, "
    "sacrebleu, evaluate, skimage.metrics, sklearn.linear_model, scipy.stats, statsmodels.api, matplotlib.pyplot"
)
_WORTH_SAYING_S = 10
"""A set-up that only looked is done sooner, and has nothing to say."""

EXIT_FAILED = 1
EXIT_USAGE = 2


def main() -> int:
    """Do what is missing; return 0 when the harness can run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, separated by commas: dev, ray")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--this-python", action="store_true", help="install into the Python that runs this; make nothing")
    what.add_argument("--clean", action="store_true", help="remove the virtual environment that set-up made")
    what.add_argument("--exec", nargs=argparse.REMAINDER, metavar="PROGRAM", help="start a program of the environment")
    options = parser.parse_args()
    try:
        if options.clean:
            if done := remove(VENV):
                print(f"setup: {done}", flush=True)
            return 0
        if options.exec:
            return start(options.exec)
        return set_up(options.extras, this_python=options.this_python)
    except FolderRefused as error:
        return fail(str(error), EXIT_USAGE)
    except OSError as error:
        return fail(str(error))


def set_up(extras: str, *, this_python: bool = False) -> int:
    """Take each step that has not been taken; return 0 when the harness can run."""
    started = time.monotonic()
    if this_python:
        use_this_python()
    wanted = wanted_extras(extras)
    if (this_python or may_use(VENV)) and ready_stamp().stands(wanted):
        return 0
    browser = BrowserMeanwhile()
    steps: tuple[tuple[str, Callable[[], Step]], ...] = (
        ("virtual environment", lambda: ("", "") if this_python else make_environment()),
        ("packages", lambda: install_packages(wanted, browser)),
    )
    for words, step in steps:
        begun = time.monotonic()
        problem, done = step()
        if problem:
            return fail(f"{words}: {problem}")
        if done:
            print(f"setup: {words}: {done} ({time.monotonic() - begun:.0f} s)", flush=True)
    with compiling(new=bool(done)):
        code, files = set_up_machine(browser=not browser.problem)
    if code or browser.problem:
        return code or EXIT_FAILED
    if files:
        ready_stamp().write(packages_stamp()[1:], files)
    if time.monotonic() - started > _WORTH_SAYING_S:
        print(f"setup: ready after {time.monotonic() - started:.0f} s", flush=True)
    return 0


def use_this_python() -> None:
    """Install into the Python that runs this program, as a notebook wants it: nothing is made and nothing cleared."""
    global VENV, PYTHON, KEEPS_ITS_VERSIONS
    VENV, PYTHON, KEEPS_ITS_VERSIONS = Path(sys.prefix), Path(sys.executable), True


def ready_stamp() -> ReadyStamp:
    """Return the stamp of a finished set-up."""
    return ReadyStamp(VENV, PYTHON, ROOT, CONSTRAINTS)


def start(words: Sequence[str]) -> int:
    """Run a program of the environment (`python -m harness …`) where the caller stands; return its exit code."""
    command = [str(PYTHON.parent / words[0]), *words[1:]]
    if not may_use(VENV) or shutil.which(command[0]) is None:
        return fail(f"there is no {words[0]} in {VENV}: make setup", EXIT_USAGE)
    if os.name != "nt":
        sys.stdout.flush()
        os.execv(command[0], command)  # so that signals and the exit code are the program's own
    return subprocess.run(command, check=False).returncode


Step = tuple[str, str]
"""(what went wrong or nothing, what was done or nothing)"""


def make_environment() -> Step:
    """Make the virtual environment, unless it works already.

    Raises:
        FolderRefused: the path is somebody's own.
    """
    if may_use(VENV) and PYTHON.exists() and run([PYTHON, "-m", "pip", "--version"]).returncode == 0:
        return "", ""
    claim(VENV)
    made = run([sys.executable, "-m", "venv", VENV])
    if made.returncode != 0:
        return f"{last_line(made.stdout, made.stderr)}. On Debian and Ubuntu: apt-get install python3-venv", ""
    return "", f"made with Python {sys.version.split()[0]}"


def wanted_extras(extras: str) -> set[str]:
    """Return the extras that are asked for, and the one of the card where there is one."""
    wanted = set(filter(None, extras.split(",")))
    if sys.platform == "linux" and shutil.which("nvidia-smi"):
        wanted.add("gpu")
    return wanted


def packages_stamp() -> list[str]:
    """Return what the stamp of the packages says: what decided them, then the extras; nothing where there is none."""
    stamp = VENV / PACKAGES
    return stamp.read_text(encoding="utf-8").split() if stamp.exists() else []


def note_packages(content: str, extras: set[str]) -> None:
    """Write that stamp."""
    (VENV / PACKAGES).write_text("\n".join([content, *sorted(extras)]), encoding="utf-8")


def install_packages(wanted: set[str], browser: BrowserMeanwhile) -> Step:
    """Install torch and the harness with its dependencies, once for each state of the files; a browser meanwhile."""
    deciding = (ROOT / "pyproject.toml", CONSTRAINTS, *(Path(__file__).with_name(name) for name in _INSTALLING))
    content = hashlib.sha256(b"\0".join(file.read_bytes() for file in deciding)).hexdigest()
    before = packages_stamp()
    if before[:1] == [content] and wanted <= set(before[1:]):
        return "", ""
    wanted = wanted | set(before[1:])
    installer = Installer(PYTHON, run, None if KEEPS_ITS_VERSIONS else CONSTRAINTS, fetch_uv=not KEEPS_ITS_VERSIONS)
    # until all of it is there, no earlier state of the files may find its own stamp
    ready_stamp().remove()
    note_packages("unfinished", wanted)
    browser.start(PYTHON, installer)
    try:
        torch = install_torch(installer)
        harness = f"{ROOT}[{','.join(sorted(wanted))}]" if wanted else str(ROOT)
        print("setup: packages: transformers, trl, peft and the rest …", flush=True)
        done = installer.install("-e", harness)
    finally:
        if problem := browser.wait():
            fail(f"browser: {problem}")
    if done.returncode != 0:
        return f"{last_line(done.stdout, done.stderr)}. Check the network, then run the same command again", ""
    note_packages(content, wanted)
    return "", f"installed{f' with {torch}' if torch else ''}"


def install_torch(installer: Installer) -> str:
    """Where there is no NVIDIA GPU, install torch without its 3 GB of CUDA libraries; elsewhere leave it be."""
    if sys.platform != "linux" or shutil.which("nvidia-smi"):
        return ""
    wanted = constrained("torch")
    there = run([PYTHON, "-c", "import torch; print(torch.__version__.partition('+')[0])"])
    if there.returncode == 0 and (KEEPS_ITS_VERSIONS or there.stdout.strip() == wanted):
        return ""
    print("setup: packages: torch without CUDA …", flush=True)
    build = f"torch=={wanted}+cpu"
    for source in ([], ["--index-url", CPU_TORCH_INDEX]):
        if installer.install(*source, build).returncode == 0:
            return build
    print("setup: no CPU build of torch is to be had here; the default build brings 3 GB of CUDA libraries", flush=True)
    return ""


@contextlib.contextmanager
def compiling(*, new: bool) -> Iterator[None]:
    """Let the slowest packages be compiled meanwhile, if they are new: else each of the first processes does it again.

    uv compiles nothing, and compiling all that is installed would take minutes.
    """
    begun = begin([PYTHON, "-c", f"import {_SLOWEST}"], {"PYTHONDONTWRITEBYTECODE": ""}) if new else None
    try:
        yield
    finally:
        if begun is not None:
            begun.communicate()


def set_up_machine(*, browser: bool = True) -> tuple[int, list[str]]:
    """Let the harness fetch what is not a package (harness/setup); return its exit code and the files it stands on.

    The checker is welcome and not needed, so it is looked for once: without Java and npm each call would try again.

    Args:
        browser: A browser too; False where fetching one has just failed.
    """
    stamp = VENV / ".harness-nu"
    without = [*([] if browser else ["--no-browser"]), *(["--no-checker"] if stamp.exists() else [])]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found"
        code = follow([PYTHON, "-m", "harness", "setup", "--quiet", *without, "--found", found])
        files = found.read_text(encoding="utf-8").splitlines() if found.exists() else []
    if code == 0:
        stamp.touch()
    return code, files


def constrained(package: str) -> str:
    """Return the version of a package in constraints.txt."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def fail(words: str, code: int = EXIT_FAILED) -> int:
    """Say what is missing and return the exit code."""
    print(f"setup: {' '.join(words.split())}", file=sys.stderr, flush=True)
    return code
