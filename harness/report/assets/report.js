// Puts the gallery together and listens: to the address, the keys, the window, the printer.
const refresh = (keep = true) => {
  showFilters();
  items = matching();
  $("#shown").textContent = `${items.length === data.tasks.length ? "" : `${items.length} of `}${data.tasks.length} task${data.tasks.length === 1 ? "" : "s"}`;
  current = -1;
  cards.replaceChildren();
  alive = new Map();
  if (items.length) {
    cards.setAttribute("role", "list");
    cards.setAttribute("aria-label", "Tasks");
  } else {
    cards.removeAttribute("role");
    cards.removeAttribute("aria-label");
    cards.append(h("p", { class: "note empty" }, data.tasks.length ? "No task fits these filters." : "The run holds no task yet."));
  }
  layOut();
  if (!items.length) cards.style.height = "";
  if (keep) keepAddress();
};

// Shows what the address asks for: a task, else the gallery with its filters.
const arrive = (behavior) => {
  refresh(false);
  if (location.hash.includes("=") && !state.task && !dialog.open) $("#gallery").scrollIntoView({ behavior });
  showDetail();
};
const follow = () => { if (readAddress()) arrive("auto"); };

const typing = (target) => target.closest?.("input:not([type=radio], [type=checkbox]), select, textarea, [contenteditable]");
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const arrows = !event.target.closest?.(".code, .scroll, .actual .shot, pre, fieldset");
  const key = event.key;
  if (dialog.open) {
    const view = VIEWS[Number(key) - 1];
    if (key === "j" || (key === "ArrowRight" && arrows)) step(1);
    else if (key === "k" || (key === "ArrowLeft" && arrows)) step(-1);
    else if (key === "z" && PICTURES.includes(state.view)) zoom();
    else if (view) { state.view = view[0]; keepAddress(); draw(); }
    else return;
  } else if (key === "j") focusCard(current + 1);
  else if (key === "k") focusCard(Math.max(0, current - 1));
  else if (key === "/") search.focus();
  else return;
  event.preventDefault();
});
cards.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  open(items[Number(link.closest(".card").dataset.position)].index);
});
addEventListener("scroll", fillSoon, { passive: true });
addEventListener("resize", layOut);
addEventListener("hashchange", follow);
addEventListener("popstate", follow);

// On paper nothing scrolls and nothing folds: every task of the filter, every table.
let folds = [];
addEventListener("beforeprint", () => {
  folds = [...document.querySelectorAll("main details:not([open])")];
  for (const fold of folds) fold.open = true;
  cards.classList.add("printing");
  cards.replaceChildren(...items.map((_, position) => makeCard(position)));
  for (const image of cards.querySelectorAll("img")) image.loading = "eager";
});
addEventListener("afterprint", () => {
  for (const fold of folds) fold.open = false;
  cards.classList.remove("printing");
  cards.replaceChildren();
  layOut();
});

buildFilters();
readAddress();
arrive("instant");
