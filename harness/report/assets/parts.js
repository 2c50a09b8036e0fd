// The parts of one answer: its code, its difference from the reference, live, and what was found in it.
import { canonicalLines, difference, folded } from "./diff.js";
import { h } from "./dom.js";
import { highlightedLines } from "./highlight.js";
import { MINUS, isNumber } from "./numbers.js";
/** @import { Answer, Child, Message, Piece } from "./types.d.ts" */

const MOST_SHOWN = 2500;
/** @type {{ createHTML: (text: string) => string }} */
const asGiven = { createHTML: (text) => text };
const live = globalThis.trustedTypes?.createPolicy("live", asGiven) ?? asGiven;
const NO_NETWORK = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:";

// A generated page, alive but shut in: no scripts, no origin, no network, no way to anywhere. The sandbox and both
// policies hold by themselves; what is taken out here are hints that make a browser look up names before any policy asks.
/** @type {(html: string, name: string) => HTMLIFrameElement} */
export const liveFrame = (html, name) => {
  const page = new DOMParser().parseFromString(live.createHTML(html), "text/html");
  for (const element of page.querySelectorAll("script, base, link, meta[http-equiv], iframe, frame, object, embed, portal, fencedframe")) element.remove();
  for (const element of page.querySelectorAll("[href], [ping], [target]")) {
    if (!(element.getAttribute("href") ?? "#").startsWith("#")) element.setAttribute("href", "#");
    element.removeAttribute("ping");
    element.removeAttribute("target");
  }
  const quiet = page.createElement("meta"), rule = page.createElement("meta");
  quiet.httpEquiv = "x-dns-prefetch-control";
  quiet.content = "off";
  rule.httpEquiv = "Content-Security-Policy";
  rule.content = NO_NETWORK;
  (page.head ?? page.documentElement).prepend(rule, quiet);
  const frame = h("iframe", { sandbox: "", referrerpolicy: "no-referrer", title: `The page of ${name}, live, without scripts and network` });
  frame.srcdoc = live.createHTML(`<!doctype html>${page.documentElement.outerHTML}`);
  return frame;
};

/** @type {(line: Piece[]) => Child[]} */
const pieces = (line) => line.map(([kind, text]) => (kind ? h("span", { class: `c-${kind}` }, text) : text));
/** @type {(html: string, messages: Message[], name: string) => HTMLElement} */
export const codeView = (html, messages, name) => {
  if (!html) return h("p", { class: "nothing" }, "no HTML in this answer");
  const lines = highlightedLines(html);
  /** @type {Map<number, Message[]>} */
  const at = new Map();
  for (const message of messages) if (isNumber(message.line)) at.set(message.line, [...(at.get(message.line) ?? []), message]);
  const view = h("div", { class: "code", tabindex: "0", role: "region", "aria-label": `Code of ${name}` });
  /** @type {(from: number, to: number) => void} */
  const add = (from, to) => lines.slice(from, to).forEach((line, index) => {
    const number = from + index + 1, said = at.get(number) ?? [];
    view.append(h("div", { class: said.length ? "line marked" : "line", "data-line": number }, h("span", { class: "no", "aria-hidden": "true" }, number), h("code", {}, pieces(line))));
    for (const message of said) view.append(h("div", { class: "said" }, messageText(message)));
  });
  add(0, MOST_SHOWN);
  if (lines.length > MOST_SHOWN) {
    const rest = h("button", { type: "button", class: "quiet", on: { click: () => { rest.remove(); add(MOST_SHOWN, lines.length); } } }, `Show ${lines.length - MOST_SHOWN} more lines`);
    view.append(rest);
  }
  return view;
};
/** @type {(reference: string, html: string, name: string) => HTMLElement} */
export const diffView = (reference, html, name) => {
  if (!reference) return h("p", { class: "nothing" }, "the suite gives no reference");
  const view = h("div", { class: "code diff", tabindex: "0", role: "region", "aria-label": `Difference of ${name} from the reference` });
  const lines = folded(difference(canonicalLines(reference), canonicalLines(html)));
  if (lines.every(([sign]) => sign === "...")) return h("p", { class: "nothing" }, "the same as the reference, but for white space");
  for (const [sign, text] of lines.slice(0, MOST_SHOWN)) {
    if (sign === "...") view.append(h("div", { class: "fold" }, `${text} equal line${text === 1 ? "" : "s"}`));
    else view.append(h("div", { class: `line ${{ "+": "plus", "-": "minus", " ": "" }[sign]}` },
      h("span", { class: "no", "aria-hidden": "true" }, sign === "-" ? MINUS : sign), h("code", {}, sign !== " " && h("span", { class: "unseen" }, sign === "+" ? "added: " : "missing: "), text)));
  }
  return view;
};

/** @type {(message: Message) => Child[]} */
const messageText = (message) => [h("span", { class: "source" }, String(message.source ?? "")), " ", String(message.text ?? ""), message.code ? h("span", { class: "note" }, ` ${message.code}`) : ""];
/** @type {(title: string, content: Child[]) => Child[]} */
const section = (title, content) => (content.length ? [h("h4", {}, title), content] : []);
/**
 * @template Value
 * @param {Value[] | null | undefined} values
 * @param {(value: Value) => Child} make
 * @returns {Child[]}
 */
const listOf = (values, make) => (Array.isArray(values) && values.length ? [h("ul", {}, values.slice(0, 200).map((value) => h("li", {}, make(value))))] : []);

/** @type {Map<string | undefined, string>} */
const ENDINGS = new Map(Object.entries({ stop: "stopped after its page", eos: "ended by itself", length: "cut at the token limit", loop: "cut in a loop", error: "not answered" }));
/** @type {(answer: Answer, jump: (line: number) => void) => HTMLElement} */
export const findings = (answer, jump) => {
  const render = answer.render ?? {}, seconds = answer.timing?.generate_s;
  const checks = [...(answer.checks ?? [])].sort((a, b) => Number(a.passed) - Number(b.passed));
  const overflow = Object.entries(render.overflow ?? {}).filter(([, px]) => px > 0).map(([width, px]) => `${px} px wider than a window of ${width} px`);
  const facts = [
    answer.finish_reason && (ENDINGS.get(answer.finish_reason) ?? String(answer.finish_reason)),
    answer.extraction && `${answer.extraction.kind === "other" ? answer.notes?.extracted ?? "no page" : `HTML ${answer.extraction.kind}`}${answer.extraction.truncated ? ", cut off" : ""}`,
    answer.timing?.completion_tokens && `${answer.timing.completion_tokens} tokens`,
    isNumber(seconds) && seconds > 0 && `${seconds.toFixed(1)} s`,
  ].filter(Boolean);
  return h("div", { class: "findings" },
    facts.length > 0 && h("p", { class: "note small" }, facts.join(" · ")),
    section("Checks", listOf(checks, (check) => [h("span", { class: check.passed ? "better" : "worse" }, check.passed ? "✓ " : "✗ ", h("span", { class: "unseen" }, check.passed ? "passed: " : "failed: ")),
      String(check.why ?? ""), check.level === "should" && h("span", { class: "note" }, " (should)"), !check.passed && check.detail && h("small", {}, String(check.detail))])),
    section("Messages", listOf(answer.messages, ({ line, ...message }) => [isNumber(line) && h("button", { type: "button", class: "jump", on: { click: () => jump(line) } }, `line ${line}`), " ", messageText(message)])),
    section("In the browser", listOf([render.detail, ...(render.errors ?? []), ...(render.console_errors ?? []), ...overflow].filter(Boolean), String)),
    section("Missing or blocked", listOf(render.blocked, String)),
    section("Accessibility (axe)", listOf(render.accessibility, (one) => [String(one.help ?? one.id ?? ""), h("span", { class: "note" }, ` ${[one.impact, one.nodes !== undefined && `${Array.isArray(one.nodes) ? one.nodes.length : one.nodes} times`].filter(Boolean).join(", ")}`)])),
    section("Not measured", listOf(Object.entries(answer.notes ?? {}), ([metric, why]) => `${metric}: ${why}`)),
    answer.completion && h("details", { class: "more" }, h("summary", {}, "The whole answer"), h("pre", { tabindex: "0" }, answer.completion)));
};
