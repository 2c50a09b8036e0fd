// The run's data: a light list at once, packed texts when someone looks.
import { readJson } from "./dom.js";
import { factor, isNumber } from "./numbers.js";
/** @import { Gallery, Task, Texts } from "./types.d.ts" */

export const data = /** @type {Gallery} */ (readJson("data"));
const pictures = /** @type {Record<string, string> | null} */ (readJson("pictures"));
const chunks = [...document.querySelectorAll("script.chunk")];
/** @type {Map<number, Promise<Texts[]>>} */
const opened = new Map();

/** @type {(text: string) => Promise<Texts[]>} */
const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text.trim()), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
};
/** @type {(index: number) => Promise<Texts>} */
export const textsOf = async (index) => {
  const chunk = Math.floor(index / data.chunk);
  const texts = opened.get(chunk) ?? unpack(chunks[chunk].textContent);
  opened.set(chunk, texts);
  return (await texts)[index % data.chunk];
};
/** @type {(path: string) => string} */
export const shotUrl = (path) => (pictures ? pictures[path] ?? "" : path);

export const MEAN = "primary";
const primaries = data.metrics.flatMap((metric, place) => (metric.primary ? [place] : []));
export const primaryPlaces = primaries.length ? primaries : data.metrics.map((_, place) => place);
/** @type {(task: Task, model: number) => Task["r"][number]} */
export const answers = (task, model) => task.r[model] ?? [];

/**
 * The mean over a task's samples in points of 100, or null where nothing was measured.
 * @type {(task: Task, model: number, metric: number) => number | null}
 */
export const scoreOf = (task, model, metric) => {
  const values = answers(task, model).map((answer) => answer[1][metric]).filter(isNumber).filter((value) => value !== -1);
  if (!values.length) return null;
  return (values.reduce((sum, value) => sum + value, 0) / values.length) * factor(data.metrics[metric].scale);
};
/** @type {(task: Task, first: number, second: number, metric: string) => number | null} */
export const changeOf = (task, first, second, metric) => {
  const places = metric === MEAN ? primaryPlaces : [data.metrics.findIndex((one) => one.name === metric)];
  const differences = places.flatMap((place) => {
    const before = scoreOf(task, first, place), after = scoreOf(task, second, place);
    return before === null || after === null ? [] : [after - before];
  });
  return differences.length ? differences.reduce((sum, value) => sum + value, 0) / differences.length : null;
};

/** @type {Map<string, number | null>} */
const ids = new Map();
data.tasks.forEach((task, index) => ids.set(task.id, ids.has(task.id) ? null : index));
/** @type {(index: number) => string} */
export const keyOf = (index) => {
  const task = data.tasks[index];
  return ids.get(task.id) === index ? task.id : `${task.s}/${task.id}`;
};
/** @type {(key: string) => number} */
export const byKey = (key) => ids.get(key) ?? data.tasks.findIndex((task) => `${task.s}/${task.id}` === key);
/** By task: what a search looks through. */
export const searched = data.tasks.map((task) => [task.p, task.id, task.c, task.d, task.s].join(" ").toLowerCase());
