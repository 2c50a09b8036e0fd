// Shows two answers to a prompt and sends what is chosen; nothing of an answer is ever parsed as HTML.

/** @typedef {{ code: string, shot: boolean }} Side */
/** @typedef {{ id: string, done: number, total: number, prompt: string, input: string, left: Side, right: Side }} Ballot */
/** @typedef {{ id: null, done: number, total: number }} Finished */

const base = location.pathname.replace(/\/$/, "");
/** @type {(id: string) => HTMLElement} */
const find = (id) => {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
};
/** @type {(problem: string) => void} */
const tell = (problem) => { find("problem").textContent = problem; };
/** @type {Ballot | null} */
let current = null;
let busy = false;

/** @type {(ballot: Ballot, name: "left" | "right") => void} */
const show = (ballot, name) => {
  const about = ballot[name], image = find(`${name}-image`);
  image.hidden = !about.shot;
  find(`${name}-missing`).hidden = about.shot;
  if (about.shot) image.setAttribute("src", `${base}/shot/${ballot.id}/${name}`);
  else image.removeAttribute("src");
  find(`${name}-code`).textContent = about.code || "(no page in this answer)";
};

const next = async () => {
  current = null; // until the next pair is there, no key votes on the last one again
  try {
    const answer = await fetch(`${base}/next`, { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const ballot = /** @type {Ballot | Finished} */ (await answer.json());
    find("progress").textContent = `${ballot.done} of ${ballot.total} judged`;
    find("ballot").hidden = find("buttons").hidden = ballot.id === null;
    find("finished").hidden = ballot.id !== null;
    if (ballot.id === null) return;
    find("prompt").textContent = ballot.prompt + (ballot.input ? `\n\n${ballot.input}` : "");
    show(ballot, "left");
    show(ballot, "right");
    current = ballot;
    window.scrollTo(0, 0);
  } catch (error) {
    tell(`The next pair did not come; reload the page to go on: ${error instanceof Error ? error.message : error}`);
  }
};

/** @type {(choice: string) => Promise<void>} */
const vote = async (choice) => {
  if (busy || current === null) return;
  busy = true;
  try {
    const answer = await fetch(`${base}/vote`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ id: current.id, choice }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    tell("");
    await next();
  } catch (error) {
    tell(`Not saved: ${error instanceof Error ? error.message : error}`);
  } finally {
    busy = false;
  }
};

const KEYS = new Map([
  ["ArrowLeft", "left"], ["1", "left"], ["ArrowRight", "right"], ["2", "right"], ["ArrowDown", "tie"], ["0", "tie"], ["x", "both-bad"],
]);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const choice = KEYS.get(event.key);
  if (choice) { event.preventDefault(); vote(choice); }
  if (event.key === "c") for (const code of document.querySelectorAll("details")) code.open = !code.open;
});
for (const button of document.querySelectorAll("button")) {
  const choice = button.dataset.choice;
  if (choice) button.addEventListener("click", () => vote(choice));
}
next();
