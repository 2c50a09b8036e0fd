// The run's data: a light list at once, packed texts when someone looks.
const data = readJson("data");
const pictures = readJson("pictures");
const chunks = [...document.querySelectorAll("script.chunk")];
const opened = new Map();

const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text.trim()), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
};
const textsOf = async (index) => {
  const chunk = Math.floor(index / data.chunk);
  if (!opened.has(chunk)) opened.set(chunk, unpack(chunks[chunk].textContent));
  return (await opened.get(chunk))[index % data.chunk];
};
const shotUrl = (path) => (pictures ? pictures[path] ?? "" : path);

const MEAN = "primary";
const primaries = data.metrics.flatMap((metric, place) => (metric.primary ? [place] : []));
const primaryPlaces = primaries.length ? primaries : data.metrics.map((_, place) => place);
const answers = (task, model) => task.r[model] ?? [];

// The mean over a task's samples in points of 100, or null where nothing was measured.
const scoreOf = (task, model, metric) => {
  const values = answers(task, model).map((answer) => answer[1][metric]).filter((value) => isNumber(value) && value !== -1);
  if (!values.length) return null;
  return (values.reduce((sum, value) => sum + value, 0) / values.length) * factor(data.metrics[metric].scale);
};
const changeOf = (task, first, second, metric) => {
  const places = metric === MEAN ? primaryPlaces : [data.metrics.findIndex((one) => one.name === metric)];
  const differences = places.flatMap((place) => {
    const before = scoreOf(task, first, place), after = scoreOf(task, second, place);
    return before === null || after === null ? [] : [after - before];
  });
  return differences.length ? differences.reduce((sum, value) => sum + value, 0) / differences.length : null;
};

const ids = new Map();
data.tasks.forEach((task, index) => ids.set(task.id, ids.has(task.id) ? null : index));
const keyOf = (index) => {
  const task = data.tasks[index];
  return ids.get(task.id) === index ? task.id : `${task.s}/${task.id}`;
};
const byKey = (key) => {
  const found = ids.get(key);
  return isNumber(found) ? found : data.tasks.findIndex((task) => `${task.s}/${task.id}` === key);
};
data.tasks.forEach((task) => { task.find = [task.p, task.id, task.c, task.d, task.s].join(" ").toLowerCase(); });
