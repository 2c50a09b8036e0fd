// What a card and an opened task say alike: the change, what became of a page, a score, a picture.
import { h } from "./dom.js";
import { ARROW, decimal, signed, way } from "./numbers.js";
import { state } from "./state.js";
import { data, shotUrl } from "./store.js";
/** @import { Light, Task } from "./types.d.ts" */

/** @type {(change: number | null) => HTMLElement} */
export const changeBadge = (change) => {
  if (change === null) return h("span", { class: "delta open" }, "not comparable");
  const direction = Math.abs(change) < 0.05 ? "open" : way(change);
  return h("span", { class: `delta ${direction}` }, h("span", { "aria-hidden": "true" }, ARROW[direction]), " ", signed(change),
    h("span", { class: "unseen" }, " points from ", state.from, " to ", state.to));
};
/** @type {(word: string) => HTMLElement} */
export const outcomeTag = (word) => h("span", { class: `tag ${word === "ok" ? "fine" : "bad"}` }, word);
/** @type {(value: number | null) => string} */
export const scoreWord = (value) => (value === null ? "–" : decimal(value));

/** @type {(task: Task, model: number, answer: Light | undefined, view: string) => HTMLElement} */
export const pictureOf = (task, model, answer, view) => {
  const path = answer?.[view === "phone" ? 3 : 2];
  const source = path ? shotUrl(path) : "";
  if (!source) return h("div", { class: "nothing" }, answer ? `no picture: ${data.words[answer[0]]}` : "no answer");
  return h("img", { src: source, loading: "lazy", decoding: "async", alt: `What ${data.models[model].name} wrote for ${task.id}, as a ${view} screenshot` });
};
