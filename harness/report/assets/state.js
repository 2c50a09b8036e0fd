// What is asked of the gallery; it lives in the address after "#", so that a link holds it.
import { MEAN, answers, changeOf, data, keyOf, searched } from "./store.js";
/** @import { Item } from "./types.d.ts" */

const FLIP = 10; // points: from here on a task counts as better or worse, as in summary.json's flips; yes or no: 50
/** @type {(metric: string) => number} */
const flipOf = (metric) => (data.metrics.find((one) => one.name === metric)?.scale === "binary" ? 50 : FLIP);
/** @type {(name: string | undefined) => number} */
export const modelPlace = (name) => {
  const place = data.models.findIndex((model) => model.name === name);
  return place >= 0 || !name ? place : data.models.findIndex((model) => model.name.startsWith(`${name}#seed`)); // its first training
};
const pairNames = (data.suites.find((suite) => suite.pair)?.pair ?? "").split(":");
/** @type {(place: number, other: number) => number} */
const firstOr = (place, other) => (place >= 0 ? place : other);
export const VIEWS = [["desktop", "Desktop"], ["phone", "Phone"], ["code", "Code"], ["diff", "Difference"], ["live", "Live"]];
export const DEFAULTS = {
  q: "", suite: "", category: "", difficulty: "", change: "", outcome: "", check: "", sort: "task", metric: MEAN,
  from: data.models[firstOr(modelPlace(pairNames[0]), 0)]?.name ?? "",
  to: data.models[firstOr(modelPlace(pairNames[1]), Math.min(1, data.models.length - 1))]?.name ?? "",
  show: "", task: "", view: "desktop", picture: "phone", zoom: "",
};
/** @typedef {keyof typeof DEFAULTS} Key */
const KEYS = /** @type {Key[]} */ (Object.keys(DEFAULTS));
export const state = { ...DEFAULTS };

const usualModels = () => {
  const wanted = [state.from, state.to, "reference"].filter((name) => modelPlace(name) >= 0);
  return wanted.length > 1 ? [...new Set(wanted)] : data.models.slice(0, 3).map((model) => model.name);
};
const askedModels = () => {
  if (!state.show) return usualModels();
  try {
    const names = /** @type {unknown} */ (JSON.parse(state.show));
    return Array.isArray(names) ? names.filter((name) => modelPlace(name) >= 0) : usualModels();
  } catch {
    return usualModels(); // a damaged link
  }
};
export const shownModels = () => {
  const names = askedModels();
  return data.models.map((_, place) => place).filter((place) => names.includes(data.models[place].name));
};

export const readAddress = () => {
  const hash = location.hash.slice(1);
  if (hash && !hash.includes("=")) return false;
  const given = new URLSearchParams(hash);
  for (const key of KEYS) state[key] = given.get(key) ?? DEFAULTS[key];
  if (!VIEWS.some(([view]) => view === state.view)) state.view = DEFAULTS.view; // a damaged link
  return true;
};
export const address = () => {
  const given = new URLSearchParams();
  for (const key of KEYS) if (state[key] !== DEFAULTS[key]) given.set(key, state[key]);
  return "#" + given.toString();
};
export const keepAddress = () => history.replaceState(null, "", address() === "#" ? location.pathname + location.search : address());
/** @type {(index: number) => string} */
export const linkTo = (index) => "#" + new URLSearchParams({ task: keyOf(index) }).toString();

/** @type {Map<string, (item: Item) => number>} */
const RANKS = new Map([
  ["loss", (item) => item.change ?? Infinity],
  ["gain", (item) => -(item.change ?? -Infinity)],
  ["size", (item) => -Math.abs(item.change ?? 0)],
]);
export const matching = () => {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const from = modelPlace(state.from), to = modelPlace(state.to);
  const [outcomeModel, outcome] = state.outcome.split(":").map(Number);
  const [checkModel, check] = state.check.split(":").map(Number);
  const flip = flipOf(state.metric);
  /** @type {Item[]} */
  const found = [];
  data.tasks.forEach((task, index) => {
    if (state.suite && task.s !== state.suite) return;
    if (state.category && task.c !== state.category) return;
    if (state.difficulty && task.d !== state.difficulty) return;
    if (words.some((word) => !searched[index].includes(word))) return;
    if (state.outcome && !answers(task, outcomeModel).some((answer) => answer[0] === outcome)) return;
    if (state.check && !answers(task, checkModel).some((answer) => answer[4].includes(check))) return;
    const change = changeOf(task, from, to, state.metric);
    if (state.change === "better" && !(change !== null && change >= flip - 1e-9)) return;
    if (state.change === "worse" && !(change !== null && change <= -flip + 1e-9)) return;
    if (state.change === "same" && !(change !== null && Math.abs(change) < flip - 1e-9)) return;
    found.push({ index, change });
  });
  const rank = RANKS.get(state.sort);
  return rank ? found.sort((a, b) => rank(a) - rank(b) || a.index - b.index) : found;
};
