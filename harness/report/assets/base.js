// Builds elements; text goes in as text only, never as markup.
const $ = (selector, root = document) => root.querySelector(selector);
const h = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
};
const MINUS = "\u2212";
const factor = (scale) => (scale === "percent" ? 1 : 100);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const decimal = (value) => value.toFixed(1).replace("-", MINUS);
const signed = (value) => {
  const text = value.toFixed(1);
  return Number(text) === 0 ? "0.0" : (value > 0 ? "+" : "") + text.replace("-", MINUS);
};
const way = (value) => (value > 1e-9 ? "better" : value < -1e-9 ? "worse" : "open");
const ARROW = { better: "▲", worse: "▼", open: "●" };
const readJson = (id) => {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : null;
};

// Storage is not there in every browser for pages from disk.
const recall = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* the choice then lasts for this visit */ } };

const themes = ["auto", "light", "dark"];
const themeButton = $("#theme");
const setTheme = (name) => {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  themeButton.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[name];
  themeButton.setAttribute("aria-label", `Colours: ${name}`);
};
let theme = themes.includes(recall("report-theme")) ? recall("report-theme") : "auto";
setTheme(theme);
themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  setTheme(theme);
  remember("report-theme", theme);
});
