// The list of runs: two that are picked are laid beside each other.
import { $, h, readJson } from "./dom.js";
import { decimal, factor, isNumber, signed } from "./numbers.js";
import { startTheme } from "./theme.js";
/** @import { Child, Interval, Overview, Scale } from "./types.d.ts" */

const { runs } = /** @type {Overview} */ (readJson("data"));
const boxes = /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll(".pick input")]);
/** @type {(numbers: Interval, scale: Scale) => Child} */
const cell = (numbers, scale) => {
  const by = factor(scale), [mean, low, high] = numbers;
  if (!isNumber(mean)) return "–";
  return [decimal(mean * by), isNumber(low) && isNumber(high) && h("small", {}, `${decimal(low * by)} to ${decimal(high * by)}`)];
};
const compare = () => {
  const picked = boxes.filter((box) => box.checked).map((box) => runs[Number(box.value)]).reverse();
  $("#compare").hidden = picked.length !== 2;
  for (const box of boxes) box.disabled = picked.length === 2 && !box.checked;
  const ask = picked.length === 1 ? [`Picked: ${picked[0].name}. Pick another run to compare it with.`] : picked.length === 2 ? ["Two runs picked: ", h("a", { href: "#compare" }, "see them beside each other")] : [];
  $("#picked").replaceChildren(...ask);
  if (picked.length !== 2) return;
  const [a, b] = picked;
  /** @type {HTMLElement[]} */
  const parts = [];
  for (const [name, left] of Object.entries(a.suites)) {
    const right = b.suites[name];
    if (!right) continue;
    const models = a.models.filter((model) => b.models.includes(model));
    const label = `${left.title}: ${a.name} and ${b.name}`;
    const body = left.metrics.flatMap((metric) => {
      const other = right.metrics.find((one) => one.name === metric.name);
      if (!other) return [];
      const known = models.filter((model) => metric.models[model] && other.models[model]);
      return known.map((model, index) => {
        const [before] = metric.models[model], [after] = other.models[model];
        const alike = metric.version === other.version;
        const change = isNumber(before) && isNumber(after) ? signed((after - before) * factor(metric.scale)) : "–";
        return h("tr", { class: metric.primary ? "primary" : null }, index === 0 && h("th", { scope: "rowgroup", rowspan: known.length }, metric.label), h("td", {}, model),
          h("td", { class: "num" }, cell(metric.models[model], metric.scale)), h("td", { class: "num" }, cell(other.models[model], other.scale)),
          h("td", { class: "num" }, alike ? change : "other scorer"));
      });
    });
    if (left.split !== right.split) parts.push(h("p", { class: "note gap" }, `${left.title}: the two runs did not measure the same rows.`));
    parts.push(
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, h("table", {}, h("caption", {}, left.title),
        h("thead", {}, h("tr", {}, ["Metric", "Model"].map((head) => h("th", { scope: "col" }, head)), [a.name, b.name, "Difference"].map((head) => h("th", { scope: "col", class: "num" }, head)))),
        h("tbody", {}, body))));
  }
  $("#compared").replaceChildren(...(parts.length ? parts : [h("p", { class: "note" }, "The two runs share no suite.")]),
    h("p", { class: "note" }, "Means with their own intervals; the difference has none, because two intervals side by side decide nothing. For the paired test type ", h("code", {}, `python -m harness compare ${a.folder} ${b.folder}`)));
};
startTheme();
for (const box of boxes) {
  const label = box.closest("label");
  if (label) label.hidden = runs.length < 2;
  box.addEventListener("change", compare);
}
