// Finds and builds elements; text goes in as text only, never as markup.
/** @import { Attributes, Child } from "./types.d.ts" */

/**
 * The element that the page has for certain.
 * @param {string} selector
 */
export const $ = (selector) => {
  const element = document.querySelector(selector);
  if (!(element instanceof HTMLElement)) throw new Error(`the page has no ${selector}`);
  return element;
};

/** @type {(element: HTMLElement, child: Child) => void} */
const append = (element, child) => {
  if (Array.isArray(child)) for (const one of child) append(element, one);
  else if (child !== null && child !== undefined && child !== false) element.append(typeof child === "number" ? String(child) : child);
};

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
export const h = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "object") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, /** @type {EventListener} */ (handler));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
};

/**
 * What Python left in a script element; null where there is none.
 * @param {string} id
 * @returns {unknown}
 */
export const readJson = (id) => {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : null;
};
