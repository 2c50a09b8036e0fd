"""The page on which people vote: no framework, no network, nothing of an answer is ever run or parsed as HTML."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --line: #8886; --accent: #2563eb; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1400px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1rem; margin: 0; }
header, footer { display: flex; gap: 1rem; align-items: center; flex-wrap: wrap; justify-content: space-between; }
#prompt { white-space: pre-wrap; overflow-wrap: anywhere; margin: .75rem 0; padding: .75rem;
  border: 1px solid var(--line); border-radius: 6px; max-height: 12rem; overflow: auto; }
#sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
section { border: 1px solid var(--line); border-radius: 6px; padding: .5rem; min-width: 0; }
section h2 { font-size: .9rem; margin: 0 0 .5rem; }
img { width: 100%; max-height: 60vh; object-fit: contain; object-position: top; background: #fff; }
pre { max-height: 40vh; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; margin: 0; }
#buttons { position: sticky; bottom: 0; display: flex; gap: .5rem; flex-wrap: wrap; justify-content: center;
  padding: .75rem; background: Canvas; border-top: 1px solid var(--line); }
button { font: inherit; padding: .5rem 1rem; border: 1px solid var(--line); border-radius: 6px; cursor: pointer;
  background: ButtonFace; color: ButtonText; }
button:focus-visible { outline: 3px solid var(--accent); }
#buttons span { align-self: center; }
kbd { border: 1px solid var(--line); border-radius: 3px; padding: 0 .3em; font-size: .8em; }
.none { opacity: .7; font-style: italic; }
"""

SCRIPT = """
"use strict";
const base = location.pathname.replace(/\\/$/, "");
const find = (id) => document.getElementById(id);
let current = null, busy = false;

function side(name, about) {
  const image = find(name + "-image"), missing = find(name + "-missing");
  image.hidden = !about.shot;
  missing.hidden = about.shot;
  if (about.shot) image.src = base + "/shot/" + current.id + "/" + name;
  else image.removeAttribute("src");
  find(name + "-code").textContent = about.code || "(no page in this answer)";
}

async function next() {
  const answer = await fetch(base + "/next", {cache: "no-store"});
  current = await answer.json();
  find("progress").textContent = current.done + " of " + current.total + " judged";
  find("ballot").hidden = find("buttons").hidden = current.id === null;
  find("finished").hidden = current.id !== null;
  if (current.id === null) return;
  find("prompt").textContent = current.prompt + (current.input ? "\\n\\n" + current.input : "");
  side("left", current.left);
  side("right", current.right);
  window.scrollTo(0, 0);
}

async function vote(choice) {
  if (busy || current === null || current.id === null) return;
  busy = true;
  try {
    const answer = await fetch(base + "/vote", {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({id: current.id, choice}),
    });
    if (!answer.ok) throw new Error(await answer.text());
    find("problem").textContent = "";
    await next();
  } catch (error) {
    find("problem").textContent = "Not saved: " + error.message;
  } finally {
    busy = false;
  }
}

const keys = {
  ArrowLeft: "left", "1": "left", ArrowRight: "right", "2": "right", ArrowDown: "tie", "0": "tie", x: "both-bad",
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const choice = keys[event.key];
  if (choice) { event.preventDefault(); vote(choice); }
  if (event.key === "c") for (const code of document.querySelectorAll("details")) code.open = !code.open;
});
for (const button of document.querySelectorAll("button[data-choice]"))
  button.addEventListener("click", () => vote(button.dataset.choice));
next();
"""


def page(nonce: str) -> str:
    """Return the page; `nonce` is that of the Content-Security-Policy it is served under."""
    sides = "".join(
        f'<section aria-label="{title}"><h2>{title}</h2><img id="{name}-image" alt="Screenshot of page {title}" hidden>'
        f'<p id="{name}-missing" class="none">No screenshot.</p>'
        f'<details><summary>Code</summary><pre id="{name}-code"></pre></details></section>'
        for name, title in (("left", "A"), ("right", "B"))
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Which page is better?</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style nonce="{nonce}">{STYLE}</style></head><body><main>'
        "<header><h1>Which page answers the prompt better?</h1>"
        '<span id="progress" role="status"></span></header><p id="problem" role="alert"></p>'
        f'<div id="ballot" hidden><div id="prompt"></div><div id="sides">{sides}</div></div>'
        '<div id="buttons" hidden><button data-choice="left">A is better <kbd>←</kbd></button>'
        '<button data-choice="tie">Equally good <kbd>↓</kbd></button>'
        '<button data-choice="both-bad">Both bad <kbd>x</kbd></button>'
        '<button data-choice="right">B is better <kbd>→</kbd></button><span>Code <kbd>c</kbd></span></div>'
        '<p id="finished" hidden>All judged. Thank you; you can close this page and stop the server.</p>'
        f'</main><script nonce="{nonce}">{SCRIPT}</script></body></html>'
    )
