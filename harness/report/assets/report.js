// Puts the gallery together and listens: to the address, the keys, the window, the printer.
import { cards, fillSoon, focusCard, layOut, layOutForPaper, layOutForScreen, list, showItems } from "./cards.js";
import { PICTURES, dialog, draw, openTask, showDetail, step, zoom } from "./detail.js";
import { $ } from "./dom.js";
import { buildFilters } from "./filters.js";
import { VIEWS, keepAddress, matching, readAddress, state } from "./state.js";
import { data } from "./store.js";
import { startTheme } from "./theme.js";

const refresh = () => {
  filters.show();
  const items = matching();
  $("#shown").textContent = `${items.length === data.tasks.length ? "" : `${items.length} of `}${data.tasks.length} task${data.tasks.length === 1 ? "" : "s"}`;
  showItems(items);
};
startTheme();
const filters = buildFilters(() => { refresh(); keepAddress(); });

/**
 * Shows what the address asks for: a task, else the gallery with its filters.
 * @param {ScrollBehavior} behavior
 */
const arrive = (behavior) => {
  refresh();
  if (location.hash.includes("=") && !state.task && !dialog.open) $("#gallery").scrollIntoView({ behavior });
  showDetail();
};
const follow = () => { if (readAddress()) arrive("auto"); };

const TYPING = "input:not([type=radio], [type=checkbox]), select, textarea, [contenteditable]";
const SCROLLING = ".code, .scroll, .actual .shot, pre, fieldset"; // arrows are theirs
document.addEventListener("keydown", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (event.ctrlKey || event.metaKey || event.altKey || target?.closest(TYPING)) return;
  const arrows = !target?.closest(SCROLLING);
  const key = event.key;
  if (dialog.open) {
    const view = VIEWS[Number(key) - 1];
    if (key === "j" || (key === "ArrowRight" && arrows)) step(1);
    else if (key === "k" || (key === "ArrowLeft" && arrows)) step(-1);
    else if (key === "z" && PICTURES.includes(state.view)) zoom();
    else if (view) { state.view = view[0]; keepAddress(); draw(); }
    else return;
  } else if (key === "j") focusCard(list.current + 1);
  else if (key === "k") focusCard(Math.max(0, list.current - 1));
  else if (key === "/") filters.search.focus();
  else return;
  event.preventDefault();
});
cards.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const card = /** @type {HTMLElement | null | undefined} */ (target?.closest(".card"));
  if (!target || !card) return;
  const shot = /** @type {HTMLElement | null} */ (target.closest(".shot"));
  if (shot) state.view = shot.dataset.view ?? state.view;
  else if (!target.closest("a") || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  else event.preventDefault();
  openTask(list.items[Number(card.dataset.position)].index);
});
addEventListener("scroll", fillSoon, { passive: true });
addEventListener("resize", layOut);
addEventListener("hashchange", follow);
addEventListener("popstate", follow);

// On paper nothing scrolls and nothing folds: every task of the filter, every table.
/** @type {HTMLDetailsElement[]} */
let folds = [];
addEventListener("beforeprint", () => {
  folds = [.../** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("main details:not([open])"))];
  for (const fold of folds) fold.open = true;
  layOutForPaper();
});
addEventListener("afterprint", () => {
  for (const fold of folds) fold.open = false;
  layOutForScreen();
});

readAddress();
arrive("instant");
