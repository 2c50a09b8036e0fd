// A list of any length: only the cards near the window exist.
import { $, h } from "./dom.js";
import { changeBadge, outcomeTag, pictureOf, scoreWord } from "./labels.js";
import { linkTo, shownModels, state } from "./state.js";
import { answers, data, primaryPlaces, scoreOf } from "./store.js";
/** @import { Item, Task } from "./types.d.ts" */

export const cards = $("#cards");
const AHEAD = 2;
const narrow = matchMedia("(max-width: 46rem)"); // there the answers scroll sideways, and keys must reach them
/** The tasks that the filters leave, and at which of them the keys stand. */
export const list = { items: /** @type {Item[]} */ ([]), current: -1 };
/** @type {Map<number, HTMLElement>} */
let alive = new Map();
let cardHeight = 0;

/** @type {(task: Task, model: number) => HTMLElement} */
const badges = (task, model) => h("dl", { class: "badges" }, primaryPlaces.slice(0, 3).flatMap((place) => {
  const value = scoreOf(task, model, place);
  return value === null && !answers(task, model).some((answer) => answer[1][place] !== -1) ? [] :
    [h("div", {}, h("dt", {}, data.metrics[place].label), h("dd", {}, scoreWord(value)))];
}));

/** @type {(position: number) => HTMLElement} */
const makeCard = (position) => {
  const { index, change } = list.items[position], task = data.tasks[index];
  const suite = data.suites.length > 1 ? data.suites.find((one) => one.name === task.s)?.title : "";
  const models = shownModels(), views = state.picture === "both" ? ["desktop", "phone"] : [state.picture];
  const card = h("div", { class: "card", role: "listitem", "aria-posinset": position + 1, "aria-setsize": list.items.length, "data-position": position },
    h("header", {},
      h("p", { class: "meta" }, [suite, task.c, task.d].filter(Boolean).join(" · "), h("code", {}, task.id), changeBadge(change)),
      h("p", { class: "ask" }, h("a", { href: linkTo(index), on: { focus: () => { list.current = position; } } }, task.p || "(no prompt)"))),
    h("div", { class: "strip", ...(narrow.matches ? { tabindex: "0", role: "group", "aria-label": `Answers to ${task.id}` } : {}) }, models.map((model) => {
      const answer = answers(task, model)[0];
      return h("figure", {},
        h("figcaption", {}, h("span", { class: "name" }, data.models[model].name), answer && outcomeTag(data.words[answer[0]])),
        h("div", { class: "shots" }, views.map((view) => h("div", { class: `shot as-${view}`, "data-view": view }, pictureOf(task, model, answer, view)))),
        badges(task, model));
    })));
  card.style.setProperty("--columns", String(models.length));
  return card;
};

const nearWindow = () => {
  const top = -cards.getBoundingClientRect().top;
  return [Math.max(0, Math.floor(top / cardHeight) - AHEAD), Math.min(list.items.length, Math.ceil((top + innerHeight) / cardHeight) + AHEAD)];
};
const fill = () => {
  const [from, to] = nearWindow();
  for (const [position, card] of alive) {
    if ((position < from || position >= to) && !card.contains(document.activeElement)) {
      card.remove();
      alive.delete(position);
    }
  }
  for (let position = from; position < to; position++) {
    if (alive.has(position)) continue;
    const card = makeCard(position);
    card.style.transform = `translateY(${position * cardHeight}px)`;
    const after = [...alive.keys()].filter((one) => one > position).sort((a, b) => a - b)[0];
    cards.insertBefore(card, alive.get(after) ?? null);
    alive.set(position, card);
  }
};
let waiting = false;
export const fillSoon = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; fill(); });
};
export const layOut = () => {
  cardHeight = parseFloat(getComputedStyle(cards).getPropertyValue("--card")) * parseFloat(getComputedStyle(document.documentElement).fontSize);
  cards.style.height = `${list.items.length * cardHeight}px`;
  for (const card of alive.values()) card.remove();
  alive = new Map();
  fill();
};
/** @type {(items: Item[]) => void} */
export const showItems = (items) => {
  list.items = items;
  list.current = -1;
  cards.replaceChildren();
  if (items.length) {
    cards.setAttribute("role", "list");
    cards.setAttribute("aria-label", "Tasks");
  } else {
    cards.removeAttribute("role");
    cards.removeAttribute("aria-label");
    cards.append(h("p", { class: "note empty" }, data.tasks.length ? "No task fits these filters." : "The run holds no task yet."));
  }
  layOut();
  if (!items.length) cards.style.height = "";
};
/** @type {(position: number) => void} */
export const focusCard = (position) => {
  if (!list.items.length) return;
  list.current = Math.max(0, Math.min(list.items.length - 1, position));
  const top = cards.getBoundingClientRect().top + scrollY + list.current * cardHeight;
  const bar = $(".top"), head = (getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0) + 16;
  if (top < scrollY + head || top + cardHeight > scrollY + innerHeight) scrollTo({ top: top - head, behavior: "instant" });
  fill();
  alive.get(list.current)?.querySelector("a")?.focus({ preventScroll: true });
};

/** On paper every card of the filter exists. */
export const layOutForPaper = () => {
  cards.classList.add("printing");
  cards.replaceChildren(...list.items.map((_, position) => makeCard(position)));
  for (const image of cards.querySelectorAll("img")) image.loading = "eager";
};
export const layOutForScreen = () => {
  cards.classList.remove("printing");
  cards.replaceChildren();
  layOut();
};
