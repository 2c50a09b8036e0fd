"""What each node of a cluster has, as far as it decides a number or a pixel."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import HarnessError

DECIDING = ("harness", "code", "browser", "fonts", "tools")
"""Facts that every scoring node must share with the machine that the run was started on."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What decides a number or a pixel on one machine."""

    node: str
    """Ray's id of it; empty without a cluster."""
    host: str
    harness: str
    code: str
    packages: Mapping[str, str | None]
    tools: Mapping[str, str | None]
    fonts: str
    browser: str | None
    problem: str
    """What keeps it from measuring pages, or nothing."""


def node_facts() -> NodeFacts:
    """Return this machine's facts."""
    from harness import __version__
    from harness.metrics.registry import tool_versions
    from harness.render.browser import find_browser, fonts_hash
    from harness.runs.environment import package_versions

    browser, problem = None, ""
    try:
        found = find_browser()
        browser = f"{found.name} {found.version}"
    except HarnessError as error:
        problem = str(error)
    return NodeFacts(
        node=_node_id(),
        host=platform.node(),
        harness=__version__,
        code=code_hash(),
        packages=package_versions(),
        tools=tool_versions(),
        fonts=fonts_hash(),
        browser=browser,
        problem=problem,
    )


def code_hash() -> str:
    """Return 16 hex digits over the harness' own source: equal where the same classes do the work."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def differences(ours: NodeFacts, theirs: NodeFacts) -> list[str]:
    """Return in words what a node has otherwise than we do: `browser chromium 150 instead of chromium 156`."""
    found = [theirs.problem] if theirs.problem else []
    for name in ("harness", "code", "browser", "fonts"):
        if getattr(ours, name) != getattr(theirs, name) and not (name == "browser" and theirs.problem):
            found.append(f"{name} {getattr(theirs, name)} instead of {getattr(ours, name)}")
    for our_group, their_group in ((ours.tools, theirs.tools), (ours.packages, theirs.packages)):
        for name in sorted(our_group.keys() | their_group.keys()):
            mine, other = our_group.get(name), their_group.get(name)
            if mine != other:
                found.append(f"{name} {other or 'missing'} instead of {mine or 'none'}")
    return list(dict.fromkeys(found))


def refuse_strangers(ours: NodeFacts, nodes: Sequence[NodeFacts]) -> None:
    """Let no node score pages that would not measure them as this machine does.

    Raises:
        HarnessError: a node has no browser, or another one, other fonts, tools or another harness.
    """
    for theirs in nodes:
        if not theirs.problem and all(getattr(ours, name) == getattr(theirs, name) for name in DECIDING):
            continue
        what = "; ".join(differences(ours, replace(theirs, packages=ours.packages)))
        raise HarnessError(
            f"node {theirs.host} would not measure pages as this machine does: {what}",
            "install the same on all nodes; `doctor --address` lists what differs",
        )


def _node_id() -> str:
    try:
        import ray
    except ImportError:
        return ""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
