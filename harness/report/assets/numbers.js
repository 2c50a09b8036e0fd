// Numbers as the page writes them.
/** @import { Scale, Way } from "./types.d.ts" */

export const MINUS = "\u2212";
/** @type {Record<Way, string>} */
export const ARROW = { better: "▲", worse: "▼", open: "●" };
/** @type {(scale: Scale) => number} */
export const factor = (scale) => (scale === "percent" ? 1 : 100);
export const isNumber = /** @type {(value: unknown) => value is number} */ (Number.isFinite);
/** @type {(value: number) => string} */
export const decimal = (value) => value.toFixed(1).replace("-", MINUS);
/** @type {(value: number) => string} */
export const signed = (value) => {
  const text = value.toFixed(1);
  return Number(text) === 0 ? "0.0" : (value > 0 ? "+" : "") + text.replace("-", MINUS);
};
/** @type {(value: number) => Way} */
export const way = (value) => (value > 1e-9 ? "better" : value < -1e-9 ? "worse" : "open");
