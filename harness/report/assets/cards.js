// A list of any length: only the cards near the window exist.
const cards = $("#cards");
const AHEAD = 2;
const narrow = matchMedia("(max-width: 46rem)"); // there the answers scroll sideways, and keys must reach them
let items = [];
let alive = new Map();
let current = -1;
let cardHeight = 0;

const changeBadge = (change) => {
  if (change === null) return h("span", { class: "delta open" }, "not comparable");
  const direction = Math.abs(change) < 0.05 ? "open" : way(change);
  return h("span", { class: `delta ${direction}` }, h("span", { "aria-hidden": "true" }, ARROW[direction]), " ", signed(change),
    h("span", { class: "unseen" }, " points from ", state.from, " to ", state.to));
};
const outcomeTag = (word) => h("span", { class: `tag ${word === "ok" ? "fine" : "bad"}` }, word);
const scoreWord = (value) => (value === null ? "–" : decimal(value));

const pictureOf = (task, model, answer, view) => {
  const path = answer?.[view === "phone" ? 3 : 2];
  const source = path ? shotUrl(path) : "";
  if (!source) return h("div", { class: "nothing" }, answer ? `no picture: ${data.words[answer[0]]}` : "no answer");
  return h("img", { src: source, loading: "lazy", decoding: "async", alt: `What ${data.models[model].name} wrote for ${task.id}, as a ${view} screenshot` });
};

const badges = (task, model) => h("dl", { class: "badges" }, primaryPlaces.slice(0, 3).flatMap((place) => {
  const value = scoreOf(task, model, place);
  return value === null && !answers(task, model).some((answer) => answer[1][place] !== -1) ? [] :
    [h("div", {}, h("dt", {}, data.metrics[place].label), h("dd", {}, scoreWord(value)))];
}));

const makeCard = (position) => {
  const { index, change } = items[position], task = data.tasks[index];
  const suite = data.suites.length > 1 ? data.suites.find((one) => one.name === task.s)?.title : "";
  const models = shownModels(), views = state.picture === "both" ? ["desktop", "phone"] : [state.picture];
  const card = h("div", { class: "card", role: "listitem", "aria-posinset": position + 1, "aria-setsize": items.length, "data-position": position },
    h("header", {},
      h("p", { class: "meta" }, [suite, task.c, task.d].filter(Boolean).join(" · "), h("code", {}, task.id), changeBadge(change)),
      h("p", { class: "ask" }, h("a", { href: linkTo(index), on: { focus: () => { current = position; } } }, task.p || "(no prompt)"))),
    h("div", { class: "strip", ...(narrow.matches ? { tabindex: "0", role: "group", "aria-label": `Answers to ${task.id}` } : {}) }, models.map((model) => {
      const answer = answers(task, model)[0];
      return h("figure", {},
        h("figcaption", {}, h("span", { class: "name" }, data.models[model].name), answer && outcomeTag(data.words[answer[0]])),
        h("div", { class: "shots" }, views.map((view) => h("div", { class: `shot as-${view}`, on: { click: () => { state.view = view; open(index); } } }, pictureOf(task, model, answer, view)))),
        badges(task, model));
    })));
  card.style.setProperty("--columns", models.length);
  return card;
};

const place = (card, position) => { card.style.transform = `translateY(${position * cardHeight}px)`; };
const window_ = () => {
  const top = -cards.getBoundingClientRect().top;
  return [Math.max(0, Math.floor(top / cardHeight) - AHEAD), Math.min(items.length, Math.ceil((top + innerHeight) / cardHeight) + AHEAD)];
};
const fill = () => {
  const [from, to] = window_();
  for (const [position, card] of alive) {
    if ((position < from || position >= to) && !card.contains(document.activeElement)) {
      card.remove();
      alive.delete(position);
    }
  }
  for (let position = from; position < to; position++) {
    if (alive.has(position)) continue;
    const card = makeCard(position);
    place(card, position);
    const after = [...alive.keys()].filter((one) => one > position).sort((a, b) => a - b)[0];
    cards.insertBefore(card, after === undefined ? null : alive.get(after));
    alive.set(position, card);
  }
};
let waiting = false;
const fillSoon = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; fill(); });
};
const layOut = () => {
  cardHeight = parseFloat(getComputedStyle(cards).getPropertyValue("--card")) * parseFloat(getComputedStyle(document.documentElement).fontSize);
  cards.style.height = `${items.length * cardHeight}px`;
  for (const card of alive.values()) card.remove();
  alive = new Map();
  fill();
};
const focusCard = (position) => {
  if (!items.length) return;
  current = Math.max(0, Math.min(items.length - 1, position));
  const top = cards.getBoundingClientRect().top + scrollY + current * cardHeight;
  const bar = $(".top"), head = (getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0) + 16;
  if (top < scrollY + head || top + cardHeight > scrollY + innerHeight) scrollTo({ top: top - head, behavior: "instant" });
  fill();
  $("a", alive.get(current))?.focus({ preventScroll: true });
};
