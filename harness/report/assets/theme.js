// The button for light, dark, or what the system says.
import { $ } from "./dom.js";

const KEY = "report-theme";
const NAMES = { auto: "Auto", light: "Light", dark: "Dark" };
const THEMES = /** @type {(keyof typeof NAMES)[]} */ (Object.keys(NAMES));

// Storage is not there in every browser for pages from disk.
const recall = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
/** @type {(name: string) => void} */
const remember = (name) => { try { localStorage.setItem(KEY, name); } catch { /* the choice then lasts for this visit */ } };

export const startTheme = () => {
  const button = $("#theme"), last = recall();
  let theme = THEMES.find((name) => name === last) ?? "auto";
  const show = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = NAMES[theme];
    button.setAttribute("aria-label", `Colours: ${theme}`);
  };
  show();
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    show();
    remember(theme);
  });
};
