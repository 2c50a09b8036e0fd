// Cuts HTML into coloured pieces. One pass, no backtracking: it has to stand any text at all.
/** @import { Piece } from "./types.d.ts" */

const RAW = new Set(["script", "style", "textarea", "title"]);
const SCRIPT_PIECE = /\/\*[^]*?(?:\*\/|$)|\/\/[^\n]*|"[^"\n]*"?|'[^'\n]*'?|#[\w-]+|\d[\w.%]*|[A-Za-z_$@-][\w$-]*|\s+|[^]/gy;
const KEYWORDS = new Set("const let var function return if else for while class new import export from await async null true false this typeof of in try catch throw switch case break continue".split(" "));

/** @type {(text: string, css: boolean, out: Piece[]) => void} */
const highlightCode = (text, css, out) => {
  SCRIPT_PIECE.lastIndex = 0;
  for (let match; (match = SCRIPT_PIECE.exec(text));) {
    const piece = match[0], first = piece[0];
    if (piece.startsWith("/*") || (!css && piece.startsWith("//"))) out.push(["c", piece]);
    else if (first === '"' || first === "'") out.push(["s", piece]);
    else if (/\d/.test(first) || (css && first === "#")) out.push(["n", piece]);
    else if (KEYWORDS.has(piece) || first === "@") out.push(["k", piece]);
    else out.push(["", piece]);
  }
};

/** @type {(tag: string, out: Piece[]) => void} */
const highlightTag = (tag, out) => {
  const name = /^<\/?[^\s/>]*/.exec(tag)?.[0] ?? "";
  out.push(["t", name]);
  const piece = /\s+|=|"[^"]*"?|'[^']*'?|\/?>|[^\s=>"'/]+|[^]/gy;
  piece.lastIndex = name.length;
  let value = false;
  for (let match; (match = piece.exec(tag));) {
    const text = match[0];
    if (text === "=") { value = true; out.push(["p", text]); }
    else if (/^\s/.test(text)) out.push(["", text]);
    else if (text === ">" || text === "/>") out.push(["t", text]);
    else { out.push([value ? "s" : "a", text]); value = false; }
  }
};

/** @type {(text: string, from: number) => number} */
const tagEnd = (text, from) => {
  for (let quote = "", place = from; place < text.length; place++) {
    const sign = text[place];
    if (quote) { if (sign === quote) quote = ""; }
    else if (sign === ">") return place + 1;
    else if ((sign === '"' || sign === "'") && text[place - 1] === "=") quote = sign;
  }
  return text.length;
};

/** @type {(text: string) => Piece[]} */
const highlight = (text) => {
  /** @type {Piece[]} */
  const out = [];
  for (let place = 0; place < text.length;) {
    const next = text.indexOf("<", place);
    if (next !== place) {
      const end = next < 0 ? text.length : next;
      out.push(["", text.slice(place, end)]);
      place = end;
      continue;
    }
    if (text.startsWith("<!--", place)) {
      const end = text.indexOf("-->", place);
      const stop = end < 0 ? text.length : end + 3;
      out.push(["c", text.slice(place, stop)]);
      place = stop;
    } else if (/[A-Za-z/!?]/.test(text[place + 1] ?? "")) {
      const end = tagEnd(text, place + 1), tag = text.slice(place, end);
      if (tag[1] === "!" || tag[1] === "?") out.push(["c", tag]);
      else highlightTag(tag, out);
      place = end;
      const name = /^<([A-Za-z]+)/.exec(tag)?.[1].toLowerCase();
      if (name && RAW.has(name) && !tag.endsWith("/>")) {
        const close = new RegExp(`</${name}`, "gi");
        close.lastIndex = place;
        const stop = close.exec(text)?.index ?? text.length;
        if (name === "script" || name === "style") highlightCode(text.slice(place, stop), name === "style", out);
        else out.push(["", text.slice(place, stop)]);
        place = stop;
      }
    } else {
      out.push(["", "<"]);
      place++;
    }
  }
  return out;
};

// The pieces again, line by line.
/** @type {(text: string) => Piece[][]} */
export const highlightedLines = (text) => {
  /** @type {Piece[][]} */
  const lines = [[]];
  for (const [kind, piece] of highlight(text)) {
    piece.split("\n").forEach((part, index) => {
      if (index) lines.push([]);
      if (part) lines[lines.length - 1].push([kind, part]);
    });
  }
  return lines;
};
