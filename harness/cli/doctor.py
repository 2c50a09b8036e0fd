"""`doctor`: what this machine has and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import typer
from rich.console import Console

from harness.cli.options import AddressOption
from harness.errors import EXIT_DONE, EXIT_FAILED, HarnessError


def doctor(address: AddressOption = None) -> None:
    """Say what this machine has, what is missing, and what to type to get it.

    With --address, also in what the nodes of a cluster differ from it.
    """
    code = examine()
    raise typer.Exit(code if address is None else max(code, examine_nodes(address)))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    subject: str
    fine: bool | None
    """True: there. False: missing and needed. None: missing, and the harness does without."""
    words: str


def examine(console: Console | None = None) -> int:
    """Print all findings; return 0 when nothing that is needed is missing, else 1."""
    console = console or Console()
    findings = [check() for check in _CHECKS]
    signs = {True: "ok     ", False: "MISSING", None: "without"}
    for finding in findings:
        console.print(f"{signs[finding.fine]}  {finding.subject}: {finding.words}", markup=False, highlight=False)
    return EXIT_FAILED if any(finding.fine is False for finding in findings) else EXIT_DONE


def examine_nodes(address: str, console: Console | None = None) -> int:
    """Print what each node of a Ray cluster has otherwise than this machine; return 0 where all is the same, else 1.

    Raises:
        UsageError: ray is not installed.
        HarnessError: the cluster is out of reach, or a node does not answer.
    """
    from harness.cluster.connect import joined, on_every_node
    from harness.cluster.facts import differences, node_facts

    console = console or Console()
    ours = node_facts()
    with joined(address) as ray:
        nodes = on_every_node(ray, node_facts)
    alike = True
    for node in nodes:
        others = differences(ours, node)
        alike &= not others
        sign = "DIFFERS" if others else "ok     "
        words = "; ".join(others) or f"{node.browser}, fonts {node.fonts}, the same packages"
        console.print(f"{sign}  node {node.host} ({node.node[:8]}): {words}", markup=False, highlight=False)
    return EXIT_DONE if alike else EXIT_FAILED


def _guarded(subject: str, check: Callable[[], tuple[bool | None, str]], needed: bool = True) -> Callable[[], Finding]:
    def guarded() -> Finding:
        try:
            fine, words = check()
        except HarnessError as error:
            return Finding(subject, False if needed else None, str(error))
        return Finding(subject, fine, words)

    return guarded


def _python() -> tuple[bool | None, str]:
    from harness.runs.environment import package_versions

    versions = package_versions()
    missing = [name for name, found in versions.items() if found is None]
    listed = ", ".join(f"{name} {found}" for name, found in versions.items() if found)
    return (False, f"{', '.join(missing)} not installed: install html-harness again") if missing else (True, listed)


def _device() -> tuple[bool | None, str]:
    import torch

    from harness.runs.environment import hardware

    facts = hardware()
    memory = f"{facts.memory_bytes / 2**30:.0f} GiB" if facts.memory_bytes else "unknown memory"
    machine = f"{facts.cpu}, {facts.cores} cores, {memory}"
    if facts.gpu:
        return True, f"{facts.gpu}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB; {machine}"
    return True, f"no CUDA GPU, so the embedded profile is the default; {machine}"


def _model() -> tuple[bool | None, str]:
    from harness.model.profile import EMBEDDED_PROFILE, base_weights, load_profile
    from harness.model.weights import packaged_file

    weights = base_weights(load_profile(EMBEDDED_PROFILE))
    assert weights.gguf is not None
    return True, str(packaged_file(weights.gguf))


def _browser() -> tuple[bool | None, str]:
    from harness.render.browser import find_browser

    found = find_browser()
    return True, f"{found.name} {found.version}, {found.path or 'from Playwright'}: {found.why}"


def _namespace() -> tuple[bool | None, str]:
    from harness.render.browser import network_namespace

    inside, why = network_namespace()
    return (True if inside else None), why


def _nu() -> tuple[bool | None, str]:
    from harness.metrics.nu import find_nu

    found = find_nu()
    if found is None:
        return None, "the Nu Html Checker is not installed, so conformance is not measured: run `html-harness setup`"
    return True, str(found)


def _cache() -> tuple[bool | None, str]:
    import shutil

    from harness.storage.cache import cache_folder

    folder = cache_folder()
    return True, f"{folder}, {shutil.disk_usage(folder).free / 2**30:.0f} GiB free"


_CHECKS = (
    _guarded("packages", _python),
    _guarded("device", _device),
    _guarded("embedded model", _model),
    _guarded("browser", _browser),
    _guarded("browser's own network namespace", _namespace, needed=False),
    _guarded("Nu Html Checker", _nu, needed=False),
    _guarded("cache", _cache),
)
