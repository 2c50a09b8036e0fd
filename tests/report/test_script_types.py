"""What Python writes into the pages is what the scripts' types say."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.conftest import ROOT

TYPES = ROOT / "harness/report/assets/types.d.ts"
TSC = ROOT / "tools/javascript/node_modules/typescript/bin/tsc"


def type_errors(run: Path, folder: Path) -> list[str]:
    """What the compiler says of a run's light list and texts, and of the list of runs above it."""
    page, above = ((at / "index.html").read_text(encoding="utf-8") for at in (run, run.parent))
    texts = [
        text
        for chunk in re.findall(r'class="chunk">([^<]+)<', page)
        for text in json.loads(zlib.decompress(base64.b64decode(chunk)))
    ]
    values = {
        "Gallery": re.findall(r'id="data">([^<]+)<', page)[0],
        "Texts[]": json.dumps(texts),
        "Overview": re.findall(r'id="data">([^<]+)<', above)[0],
    }
    assert texts
    file = folder / "written.ts"
    file.write_text(
        f'import type {{ Gallery, Overview, Texts }} from "{TYPES.as_posix()}";\n'
        + "".join(f"export const _{place}: {kind} = {text};\n" for place, (kind, text) in enumerate(values.items())),
        encoding="utf-8",
    )
    options = ["--noEmit", "--strict", "--ignoreConfig", "--types", "", "--lib", "es2023,dom", "--module", "esnext"]
    words = ["node", TSC, *options, "--moduleResolution", "bundler", "--allowImportingTsExtensions", file]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


@pytest.mark.skipif(not (TSC.exists() and shutil.which("node")), reason="no type check here: make lint fetches it")
def test_pages_hold_what_the_types_say(run_dir: Path, tmp_path: Path) -> None:
    assert type_errors(run_dir, tmp_path) == []
