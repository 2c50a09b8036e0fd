"""What a run ran on: package versions, hardware, and the state of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.runs.manifest import GitState, Hardware

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "evaluate",
    "sacrebleu",
    "playwright",
    "lxml",
    "html5lib",
    "turbohtml",
    "scipy",
    "statsmodels",
)


def package_versions() -> dict[str, str | None]:
    """Return the versions of the packages that can change a number; None where one is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def hardware() -> Hardware:
    """Return processor, cores, memory in bytes and GPU of this machine."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Hardware(cpu=_processor(), cores=os.cpu_count(), memory_bytes=_memory(), gpu=gpu)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def git_state(package: Path | None = None) -> GitState:
    """Return the commit of the harness' own checkout and whether files differ from it.

    Both are None where the package was installed from a wheel, or was copied into a repository of somebody else: that
    one's commit says nothing about the harness. The folder that a run is started in does not matter.

    Args:
        package: the folder of the package; None is this one's.
    """
    package = (package or Path(__file__).parents[1]).resolve()
    top = _git(package, "rev-parse", "--show-toplevel")
    own = top is not None and Path(top).resolve() == package.parent
    # within a checkout, but only as something that it ignores: a virtual environment, a copy
    own = own and _git(package, "ls-files", "--error-unmatch", "--", "__init__.py", "runs/environment.py") is not None
    commit = _git(package, "rev-parse", "HEAD") if own else None
    dirty = bool(_git(package.parent, "status", "--porcelain")) if commit else None
    return GitState(commit=commit, dirty=dirty)


def _git(folder: Path, *arguments: str) -> str | None:
    # a hook's or a build server's GIT_DIR names another repository; the index is not written for a mere query
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=20, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def peak_memory_bytes() -> int | None:
    """Return the most memory this process has used: on the GPU where there is one, else resident memory."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if platform.system() == "Darwin" else peak * 1024)
