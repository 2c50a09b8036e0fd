"""Joins ES modules into one classic script: a page from disk can import nothing, and its policy allows one script."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.errors import HarnessError

_IMPORT = re.compile(r'^import \{([\w$,\s]*)\} from "\./([\w-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|function|async function|class) ([\w$]+))", re.MULTILINE)
_OTHER = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)
_KNOWN = 'import { name } from "./file.js"; export const, function or class name'


def join_modules(entry: str, read: Callable[[str], str]) -> str:
    """Return `entry` and all that it imports as one script; `read` gives a module's text by its file's name.

    Each module becomes a function that returns what it exports, in the order in which a browser would run them, so that
    its other names stay its own. Static imports and exports of names alone, at the beginning of a line, are known.

    Raises:
        HarnessError: a name that is not exported, a circle of imports, another form of import or export.
    """
    joined: dict[str, str] = {}
    exported: dict[str, list[str]] = {}

    def add(file: str, above: tuple[str, ...]) -> None:
        if file in above:
            raise HarnessError(f"{file}: imports lead in a circle: {' → '.join([*above, file])}", "cut it at one place")
        if file in joined:
            return
        text, lines = read(file), []
        for names, source in _IMPORT.findall(text):
            add(source, (*above, file))
            wanted = re.findall(r"[\w$]+", names)
            if missing := [name for name in wanted if name not in exported[source]]:
                raise HarnessError(f"{file}: {source} does not export {', '.join(missing)}", "export it there")
            lines.append(f"const {{ {', '.join(wanted)} }} = {_variable(source)};")
        body = _IMPORT.sub("", text)
        exported[file] = _EXPORT.findall(body)
        body = _EXPORT.sub("", body).strip("\n")
        if other := _OTHER.search(body):
            raise HarnessError(f"{file}: not to be joined: {other[0]}", f"known are {_KNOWN}")
        lines += [body, f"return {{ {', '.join(exported[file])} }};"]
        joined[file] = "\n".join([f"const {_variable(file)} = (() => {{", *lines, "})();"])

    add(entry, ())
    return "\n".join(["(() => {", '"use strict";', *joined.values(), "})();", ""])


def _variable(file: str) -> str:
    return "__" + re.sub(r"\W", "_", file)
