"""What each node of a cluster has, as far as it decides a number or a pixel."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

DECIDING = ("harness", "code", "browser", "fonts", "tools")
"""Facts that every scoring node must share with the machine that the run was started on."""


def node_facts() -> dict[str, Any]:
    """Return this machine's facts; `problem` is what keeps it from measuring pages, or nothing."""
    from harness import __version__
    from harness.metrics.registry import tool_versions
    from harness.render.browser import find_browser, fonts_hash
    from harness.runs.environment import package_versions

    facts: dict[str, Any] = {
        "node": _node_id(),
        "host": platform.node(),
        "harness": __version__,
        "code": code_hash(),
        "packages": package_versions(),
        "tools": tool_versions(),
        "fonts": fonts_hash(),
        "browser": None,
        "problem": "",
    }
    try:
        browser = find_browser()
        facts["browser"] = f"{browser.name} {browser.version}"
    except HarnessError as error:
        facts["problem"] = str(error)
    return facts


def code_hash() -> str:
    """Return 16 hex digits over the harness' own source: equal where the same classes do the work."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return in words what a node has otherwise than we do: `browser chromium 150 instead of chromium 156`."""
    found = [str(theirs["problem"])] if theirs["problem"] else []
    for name in ("harness", "code", "browser", "fonts"):
        if ours[name] != theirs[name] and not (name == "browser" and theirs["problem"]):
            found.append(f"{name} {theirs[name]} instead of {ours[name]}")
    for group in ("tools", "packages"):
        for name in sorted(ours[group].keys() | theirs[group].keys()):
            mine, other = ours[group].get(name), theirs[group].get(name)
            if mine != other:
                found.append(f"{name} {other or 'missing'} instead of {mine or 'none'}")
    return list(dict.fromkeys(found))


def refuse_strangers(ours: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> None:
    """Let no node score pages that would not measure them as this machine does.

    Raises:
        HarnessError: a node has no browser, or another one, other fonts, tools or another harness.
    """
    for theirs in nodes:
        if not theirs["problem"] and all(ours[name] == theirs[name] for name in DECIDING):
            continue
        without_packages = {**theirs, "packages": ours["packages"]}
        what = "; ".join(differences(ours, without_packages))
        raise HarnessError(
            f"node {theirs['host']} would not measure pages as this machine does: {what}",
            "install the same on all nodes; `doctor --address` lists what differs",
        )


def _node_id() -> str:
    try:
        import ray
    except ImportError:
        return ""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
