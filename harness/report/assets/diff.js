/** @import { Edit, Folded } from "./types.d.ts" */

// A page as lines that can be compared: one tag, text, style declaration or statement a line, white space evened out, indented by depth.
const VOID = new Set("area base br col embed hr img input link meta source track wbr".split(" "));
const MOST_LINES = 6000, MOST_EDITS = 1200, CONTEXT = 3;

/** @type {(html: string) => string[]} */
export const canonicalLines = (html) => {
  /** @type {string[]} */
  const lines = [];
  let depth = 0, raw = "";
  for (const piece of html.replace(/\s+/g, " ").split(/(?=<)|(?<=>)/)) {
    const text = piece.trim();
    if (!text) continue;
    const closing = text.startsWith("</");
    if (closing) depth = Math.max(0, depth - 1);
    if (raw && text.toLowerCase().startsWith(`</${raw}`)) raw = "";
    const indent = "  ".repeat(Math.min(depth, 12));
    for (const line of raw ? text.split(/(?<=[{};])/) : [text]) if (line.trim()) lines.push(indent + line.trim());
    const name = raw ? "" : /^<([A-Za-z][^\s/>]*)/.exec(text)?.[1].toLowerCase();
    if (name === "style" || name === "script") raw = name;
    if (name && !VOID.has(name) && !text.endsWith("/>")) depth++;
  }
  return lines;
};

// Myers 1986, "An O(ND) difference algorithm". Past the limits: everything out, everything in.
/** @type {(before: string[], after: string[]) => Edit[]} */
export const difference = (before, after) => {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < before.length - head && tail < after.length - head && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  const a = before.slice(head, before.length - tail), b = after.slice(head, after.length - tail);
  /** @type {(lines: string[]) => Edit[]} */
  const same = (lines) => lines.map((line) => [" ", line]);
  return [...same(before.slice(0, head)), ...edits(a, b), ...same(before.slice(before.length - tail))];
};

/** @type {(a: string[], b: string[]) => Edit[]} */
const edits = (a, b) => {
  const blunt = () => [...a.map((line) => /** @type {Edit} */ (["-", line])), ...b.map((line) => /** @type {Edit} */ (["+", line]))];
  if (a.length + b.length > MOST_LINES) return blunt();
  const most = Math.min(a.length + b.length, MOST_EDITS);
  /** @type {Int32Array[]} */
  const trace = [];
  const reach = new Int32Array(2 * most + 3);
  const zero = most + 1;
  for (let d = 0; d <= most; d++) {
    trace.push(reach.slice());
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[zero + k - 1] < reach[zero + k + 1]);
      let x = down ? reach[zero + k + 1] : reach[zero + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      reach[zero + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trace, zero, d);
    }
  }
  return blunt();
};

/** @type {(a: string[], b: string[], trace: Int32Array[], zero: number, last: number) => Edit[]} */
const walkBack = (a, b, trace, zero, last) => {
  /** @type {Edit[]} */
  const out = [];
  let x = a.length, y = b.length;
  for (let d = last; d > 0; d--) {
    const reach = trace[d], k = x - y;
    const down = k === -d || (k !== d && reach[zero + k - 1] < reach[zero + k + 1]);
    const fromK = down ? k + 1 : k - 1, fromX = reach[zero + fromK], fromY = fromX - fromK;
    while (x > fromX && y > fromY && x > 0 && y > 0 && a[x - 1] === b[y - 1]) { out.push([" ", a[--x]]); y--; }
    if (down) out.push(["+", b[--y]]);
    else out.push(["-", a[--x]]);
  }
  while (x > 0 && y > 0) { out.push([" ", a[--x]]); y--; }
  return out.reverse();
};

// Long equal stretches become one number.
/** @type {(lines: Edit[]) => Folded[]} */
export const folded = (lines) => {
  const near = new Uint8Array(lines.length);
  lines.forEach(([sign], index) => {
    if (sign !== " ") near.fill(1, Math.max(0, index - CONTEXT), index + CONTEXT + 1);
  });
  /** @type {Folded[]} */
  const out = [];
  lines.forEach((line, index) => {
    const last = out.at(-1);
    if (near[index]) out.push(line);
    else if (last?.[0] === "...") last[1]++;
    else out.push(["...", 1]);
  });
  return out;
};
