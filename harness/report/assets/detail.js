// One task, closely: everything that was asked, written, measured.
import { focusCard, list } from "./cards.js";
import { $, h } from "./dom.js";
import { changeBadge, outcomeTag, pictureOf, scoreWord } from "./labels.js";
import { ARROW, MINUS, signed, way } from "./numbers.js";
import { codeView, diffView, findings, liveFrame } from "./parts.js";
import { VIEWS, address, keepAddress, linkTo, modelPlace, shownModels, state } from "./state.js";
import { answers, byKey, changeOf, data, keyOf, scoreOf, textsOf } from "./store.js";
/** @import { Task, Texts } from "./types.d.ts" */

export const PICTURES = ["desktop", "phone"];
export const dialog = h("dialog", { id: "detail", "aria-labelledby": "detail-title" });
document.body.append(dialog);
let sample = 0;
let drawn = 0;

/** @type {(task: Task, models: number[]) => HTMLElement} */
const scoreTable = (task, models) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Scores of this task" }, h("table", {},
  h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Metric"), models.map((model) => h("th", { scope: "col", class: "num" }, data.models[model].name)), h("th", { scope: "col", class: "num" }, `${state.to} ${MINUS} ${state.from}`))),
  h("tbody", {}, data.metrics.flatMap((metric, place) => {
    if (!models.some((model) => answers(task, model).some((answer) => answer[1][place] !== -1))) return [];
    const change = changeOf(task, modelPlace(state.from), modelPlace(state.to), metric.name);
    return [h("tr", metric.primary ? { class: "primary" } : {}, h("th", { scope: "row" }, metric.label),
      models.map((model) => h("td", { class: "num" }, scoreWord(scoreOf(task, model, place)))),
      h("td", { class: `num ${change === null ? "" : way(change)}` }, change === null ? "–" : [h("span", { "aria-hidden": "true" }, `${ARROW[way(change)]} `), signed(change)]))];
  }))));

/** @type {(task: Task, texts: Texts, model: number, view: string) => HTMLElement} */
const column = (task, texts, model, view) => {
  const name = data.models[model].name;
  const found = texts.answers.filter((answer) => answer.m === model);
  const answer = found.find((one) => one.n === sample) ?? found[0];
  const light = answers(task, model).find((one) => one[6] === (answer?.n ?? 0)) ?? answers(task, model)[0];
  const page = answer?.page ?? "";
  const element = h("section", { class: "answer", "aria-label": name },
    h("h3", {}, name, light && outcomeTag(data.words[light[0]])),
    h("div", { class: `view as-${view}${state.zoom ? " actual" : ""}` },
      !answer ? h("p", { class: "nothing" }, "no answer")
        : view === "code" ? codeView(page, answer.messages ?? [], name)
        : view === "diff" ? diffView(texts.reference, page, name)
        : view === "live" ? (page ? liveFrame(page, name) : h("p", { class: "nothing" }, "no HTML in this answer"))
        : h("div", { class: "shot", tabindex: "0", role: "group", "aria-label": `Picture of ${name}` }, pictureOf(task, model, light, view))),
    answer && findings(answer, (line) => {
      state.view = "code";
      draw().then(() => {
        const target = dialog.querySelector(`section.answer[data-model="${model}"] [data-line="${line}"]`);
        target?.scrollIntoView({ block: "center", behavior: "instant" });
        target?.classList.add("hit");
      });
    }));
  element.dataset.model = String(model);
  return element;
};

/** @type {(by: number) => void} */
export const step = (by) => {
  const position = list.items.findIndex((item) => item.index === byKey(state.task)) + by;
  if (position >= 0 && position < list.items.length) { list.current = position; sample = 0; openTask(list.items[position].index); }
};

export const zoom = () => { state.zoom = state.zoom ? "" : "actual"; keepAddress(); draw(); };

export const draw = async () => {
  const turn = ++drawn, index = byKey(state.task), task = data.tasks[index];
  const texts = await textsOf(index);
  if (turn !== drawn) return;
  const models = shownModels(), position = list.items.findIndex((item) => item.index === index);
  const samples = Math.max(1, ...models.map((model) => answers(task, model).length));
  const focused = document.activeElement?.id;
  const picker = h("select", { id: "detail-sample", on: { change: () => { sample = Number(picker.value); draw(); } } },
    Array.from({ length: samples }, (_, one) => h("option", { value: one, selected: one === sample }, one + 1)));
  dialog.replaceChildren(
    h("div", { class: "bar" },
      h("p", { class: "note" }, position >= 0 ? `${position + 1} of ${list.items.length}` : "outside the filter"),
      h("fieldset", { class: "views" }, h("legend", { class: "unseen" }, "View"), VIEWS.map(([key, label], place) => h("label", {},
        h("input", { type: "radio", name: "view", id: `view-${key}`, value: key, checked: key === state.view, on: { change: () => { state.view = key; keepAddress(); draw(); } } }), h("span", { title: `key ${place + 1}` }, label)))),
      PICTURES.includes(state.view) && h("button", { type: "button", class: "quiet", id: "detail-zoom", "aria-pressed": String(Boolean(state.zoom)), "aria-label": "1:1, pictures in actual size", title: "actual size, key z", on: { click: zoom } }, "1:1"),
      samples > 1 && h("label", {}, "Sample ", picker),
      h("button", { type: "button", class: "quiet", id: "detail-previous", "aria-label": "Previous task", disabled: position <= 0, on: { click: () => step(-1) } }, "←"),
      h("button", { type: "button", class: "quiet", id: "detail-next", "aria-label": "Next task", disabled: position < 0 || position >= list.items.length - 1, on: { click: () => step(1) } }, "→"),
      h("button", { type: "button", class: "quiet", id: "detail-close", "aria-label": "Close", on: { click: () => dialog.close() } }, "✕")),
    h("header", {},
      h("p", { class: "meta" }, [task.s, task.c, task.d].filter(Boolean).join(" · "), h("a", { href: linkTo(index) }, h("code", {}, task.id)), changeBadge(changeOf(task, modelPlace(state.from), modelPlace(state.to), state.metric))),
      h("h2", { id: "detail-title", tabindex: "-1", autofocus: true }, texts.prompt || task.p || "(no prompt)"),
      texts.input && h("pre", { class: "input", tabindex: "0", "aria-label": "Input" }, texts.input)),
    h("div", { class: "answers" }, models.map((model) => column(task, texts, model, state.view))),
    h("h3", {}, "Scores of this task"), scoreTable(task, models));
  dialog.style.setProperty("--columns", String(Math.max(1, models.length)));
  const again = focused?.startsWith("view-") ? `view-${state.view}` : focused || "detail-title";
  if (dialog.open) (document.getElementById(again) ?? $("#detail-title")).focus({ preventScroll: true });
};

export const showDetail = async () => {
  if (!state.task || byKey(state.task) < 0) {
    if (dialog.open) dialog.close();
    return;
  }
  await draw();
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
};
/** @type {(index: number) => void} */
export const openTask = (index) => {
  state.task = keyOf(index);
  if (dialog.open) history.replaceState(null, "", address());
  else history.pushState(null, "", address());
  showDetail();
};
dialog.addEventListener("close", () => {
  drawn++;
  dialog.replaceChildren();
  const index = byKey(state.task);
  state.task = "";
  keepAddress();
  const position = list.items.findIndex((item) => item.index === index);
  if (position >= 0) focusCard(position);
});
