// The gallery's controls, all of them native ones.
import { $, h } from "./dom.js";
import { DEFAULTS, shownModels, state } from "./state.js";
import { MEAN, answers, data } from "./store.js";
/** @import { Key } from "./state.js" */
/** @import { Light, Option, OptionGroup } from "./types.d.ts" */

/**
 * @template {string | number} Value
 * @param {Value[]} values
 * @returns {[Value, number][]}
 */
const countBy = (values) => {
  /** @type {Map<Value, number>} */
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
};
/** @type {(key: "c" | "d") => Option[]} */
const choices = (key) => [["", "All"], ...countBy(data.tasks.map((task) => task[key]).filter(Boolean)).map(([word, times]) => /** @type {Option} */ ([word, `${word} (${times})`]))];
/** @type {(pick: (answer: Light) => number[], name: (value: number) => string) => OptionGroup[]} */
const perModel = (pick, name) => data.models.flatMap((model, place) => {
  const counts = countBy(data.tasks.flatMap((task) => [...new Set(answers(task, place).flatMap(pick))]));
  return counts.length ? [{ group: model.name, options: counts.map(([value, times]) => [`${place}:${value}`, `${name(value)} (${times})`]) }] : [];
});
/** @type {(options: (Option | OptionGroup)[]) => HTMLElement[]} */
const optionsOf = (options) => options.map((option) => ("group" in option
  ? h("optgroup", { label: option.group }, optionsOf(option.options))
  : h("option", { value: option[0] }, option[1])));

/**
 * Builds them and returns the search and what lets them show the state; `changed` is called when someone turns one.
 * @param {() => void} changed
 */
export const buildFilters = (changed) => {
  /** @type {Map<Key, HTMLSelectElement>} */
  const controls = new Map();
  /** @type {(key: Key, label: string, options: (Option | OptionGroup)[]) => HTMLElement} */
  const select = (key, label, options) => {
    const element = h("select", { id: `filter-${key}`, on: { change: () => { state[key] = element.value; changed(); } } }, optionsOf(options));
    controls.set(key, element);
    return h("div", { class: "field" }, h("label", { for: `filter-${key}` }, label), element);
  };
  const search = h("input", { type: "search", id: "filter-q", placeholder: "Search prompts and ids", autocomplete: "off", spellcheck: "false",
    on: { input: () => { state.q = search.value; changed(); } } });
  /** @type {HTMLInputElement[]} */
  const modelBoxes = data.models.map((model) => h("input", { type: "checkbox", value: model.name, on: { change: () => {
    const names = modelBoxes.filter((box) => box.checked).map((box) => box.value);
    state.show = names.length ? JSON.stringify(names) : "";
    changed();
  } } }));
  const models = data.models.map((model) => /** @type {Option} */ ([model.name, model.name]));
  const suites = new Set(data.tasks.map((task) => task.s));
  const reset = h("button", { type: "button", class: "quiet", id: "reset", on: { click: () => {
    Object.assign(state, DEFAULTS);
    changed();
    search.focus();
  } } }, "Reset");
  const more = h("details", { class: "filters-more", open: matchMedia("(min-width: 46.01rem)").matches },
    h("summary", {}, "Filters"),
    h("div", { class: "fields" },
      suites.size > 1 && select("suite", "Suite", [["", "All"], ...data.suites.filter((suite) => suites.has(suite.name)).map((suite) => /** @type {Option} */ ([suite.name, suite.title]))]),
      data.tasks.some((task) => task.c) && select("category", "Category", choices("c")),
      data.tasks.some((task) => task.d) && select("difficulty", "Difficulty", choices("d")),
      select("outcome", "Outcome", [["", "Any"], ...perModel((answer) => [answer[0]], (word) => data.words[word])]),
      data.whys.length > 0 && select("check", "Failed check", [["", "Any"], ...perModel((answer) => answer[4], (why) => data.whys[why])]),
      select("change", "Change", [["", "All"], ["better", "▲ Got better"], ["worse", "▼ Got worse"], ["same", "● Neither"]]),
      select("metric", "Measured by", [[MEAN, "Mean of primary"], ...data.metrics.map((metric) => /** @type {Option} */ ([metric.name, metric.label]))]),
      select("sort", "Order", [["task", "As in the suite"], ["loss", "Largest loss first"], ["gain", "Largest gain first"], ["size", "Largest change first"]]),
      select("from", "From", models), select("to", "To", models),
      select("picture", "Pictures", [["phone", "Phone, readable"], ["desktop", "Desktop, whole"], ["both", "Both, smaller"]])),
    h("fieldset", { class: "boxes" }, h("legend", {}, "Shown side by side"),
      data.models.map((model, place) => h("label", {}, modelBoxes[place], " ", model.name))));
  $("#filters").append(
    h("div", { class: "find" }, h("label", { class: "unseen", for: "filter-q" }, "Search prompts and ids"), search, reset),
    more,
    h("p", { class: "keys note small" }, "Keys: ", ["j", "k"].map((key) => [h("kbd", {}, key), " "]), "next, previous · ", h("kbd", {}, "Enter"), " open · ",
      h("kbd", {}, "/"), " search · in a task ", h("kbd", {}, "←"), " ", h("kbd", {}, "→"), " and ", h("kbd", {}, "1"), "–", h("kbd", {}, "5"), " view, ", h("kbd", {}, "z"), " actual size"));

  const show = () => {
    if (search.value !== state.q) search.value = state.q;
    for (const [key, element] of controls) {
      element.value = state[key];
      if (element.selectedIndex < 0) { state[key] = DEFAULTS[key]; element.value = state[key]; }
    }
    const shown = new Set(shownModels());
    modelBoxes.forEach((box, place) => { box.checked = shown.has(place); });
  };
  return { search, show };
};
