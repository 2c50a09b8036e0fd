// Runs in an isolated world: the page's scripts can't change what is called here. Only DOM clobbering reaches across
// (a form control named "children" hides form.children), so every access goes through the prototypes.
(async (part, limits) => {
  const get = (proto, name) => {
    const getter = Object.getOwnPropertyDescriptor(proto, name).get;
    return (object) => getter.call(object);
  };
  const rootOf = get(Document.prototype, "documentElement");
  let root = rootOf(document);
  const parentOf = get(Node.prototype, "parentElement");
  const dataOf = get(CharacterData.prototype, "data");
  const scrollWidth = get(Element.prototype, "scrollWidth");
  const scrollHeight = get(Element.prototype, "scrollHeight");
  const clientWidth = get(Element.prototype, "clientWidth");
  const boxOf = (element) => Element.prototype.getBoundingClientRect.call(element);
  const nameOf = get(Element.prototype, "localName");

  const geometry = () => {
    if (!root) return { url: location.href, overflow: 0, height: 0 };
    // An element in quirks mode or in standards mode: the viewport's width is innerWidth, scrollbars are hidden.
    return {
      url: location.href,
      overflow: Math.max(0, scrollWidth(root) - window.innerWidth),
      height: Math.ceil(Math.max(scrollHeight(root), boxOf(root).bottom + window.scrollY)),
    };
  };
  if (part === "geometry") return geometry();

  const all = Document.prototype.getElementsByTagName.call(document, "*");
  const lengthOf = get(HTMLCollection.prototype, "length");
  const count = () => lengthOf(all);
  if (part === "ready" || part === "whole") {
    const state = get(Document.prototype, "readyState");
    const loaded = new Promise((done) => {
      addEventListener("load", done, { once: true });
      // A document that is too large is not waited for.
      const look = () => state(document) === "complete" || count() > limits.elements ? done() : setTimeout(look, 50);
      look();
    });
    await loaded;
    if (part === "ready") return { url: location.href };
  }

  // Counted first: the layout of a huge document can take longer than anyone waits.
  if (count() > limits.elements) return { url: location.href, overflow: 0, height: 0, elements: count(), text: "", faults: {}, blocks: [] };

  // Settle: two frames and the fonts, but never longer than the limit, for a page can starve frames and timers.
  {
    const frames = new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const late = new Promise((done) => setTimeout(done, limits.settle));
    await Promise.race([Promise.all([frames, get(Document.prototype, "fonts")(document).ready]), late]);
  }
  root = rootOf(document); // a page may have put another one in its place
  if (part === "still") return { ...geometry(), elements: count(), text: "", faults: {}, blocks: [] };

  const result = { ...geometry(), elements: count(), text: "", faults: { clipped: 0, zero_size: 0, invisible: 0 }, blocks: [] };
  if (result.elements > limits.elements || !root) return result;
  const body = get(Document.prototype, "body")(document);
  const textOf = get(HTMLElement.prototype, "innerText");
  if (root instanceof HTMLElement) result.text = textOf(body || root).slice(0, limits.text);
  result.html = get(Element.prototype, "outerHTML")(root);

  const styles = new Map();
  const styleOf = (element) => {
    let style = styles.get(element);
    if (!style) styles.set(element, (style = getComputedStyle(element)));
    return style;
  };
  const parse = (color) => {
    const parts = /^rgba?\(([\d.]+), ([\d.]+), ([\d.]+)(?:, ([\d.]+))?\)$/.exec(color);
    return parts && [+parts[1], +parts[2], +parts[3], parts[4] === undefined ? 1 : +parts[4]];
  };
  // Names of colours that the computed style writes otherwise (oklch, color()) are left alone: never a false alarm.
  const invisible = (element) => {
    const color = parse(styleOf(element).webkitTextFillColor || styleOf(element).color);
    if (!color) return false;
    if (color[3] === 0) return styleOf(element).backgroundClip !== "text" && styleOf(element).textShadow === "none";
    let opacity = 1;
    let backdrop = null;
    for (let at = element; at; at = parentOf(at)) {
      const style = styleOf(at);
      opacity *= +style.opacity;
      if (opacity === 0) return true;
      if (backdrop) continue;
      if (style.backgroundImage !== "none" || style.position === "absolute" || style.position === "fixed") {
        const own = parse(style.backgroundColor);
        if (style.backgroundImage === "none" && own && own[3] === 1) backdrop = own;
        else backdrop = "unknown"; // an image, or a place over something that is not an ancestor
      } else {
        const own = parse(style.backgroundColor);
        if (!own) backdrop = "unknown";
        else if (own[3] === 1) backdrop = own;
        else if (own[3] > 0) backdrop = "unknown";
      }
    }
    if (backdrop === "unknown" || color[3] < 1 || styleOf(element).textShadow !== "none") return false;
    const behind = backdrop || [255, 255, 255, 1];
    return color[0] === behind[0] && color[1] === behind[1] && color[2] === behind[2];
  };
  // Text that authors hide from eyes but keep for screen readers is no fault: a 1 px box, or a clip, taken out of the flow.
  const readersOnly = (element) => {
    for (let at = element; at && at !== body; at = parentOf(at)) {
      const style = styleOf(at);
      if (style.position !== "absolute" && style.position !== "fixed") continue;
      if (style.clip !== "auto" || style.clipPath !== "none") return true;
      const box = boxOf(at);
      if (box.width <= 1 || box.height <= 1 || box.right <= 0 || box.bottom <= 0) return true;
    }
    return false;
  };
  const clipped = (element, box) => {
    for (let at = element; at && at !== root && at !== body; at = parentOf(at)) {
      const style = styleOf(at);
      const x = style.overflowX === "hidden" || style.overflowX === "clip";
      const y = style.overflowY === "hidden" || style.overflowY === "clip";
      if (!x && !y) {
        if (style.overflowX !== "visible") return false; // scrollable: the reader can reach it
        continue;
      }
      const frame = boxOf(at);
      if (x && (box.right > frame.right + 2 || box.left < frame.left - 2)) return true;
      if (y && (box.bottom > frame.bottom + 2 || box.top < frame.top - 2)) return true;
    }
    return false;
  };
  // Blocks: what a reader sees, with its place on the page. Text is told by the element that lays its lines out, so that
  // <p>a <b>c</b></p> is one block; whether it is really painted is for the picture to say.
  const runs = new Map();
  const placed = (kind, text, left, top, right, bottom) => {
    if (result.blocks.length >= limits.blocks || right - left < 1 || bottom - top < 1) return;
    const tenth = (length) => Math.round(length * 10) / 10;
    const words = text.replace(/\s+/g, " ").trim().slice(0, limits.blockText);
    result.blocks.push([kind, words, tenth(left + scrollX), tenth(top + scrollY), tenth(right - left), tenth(bottom - top)]);
  };
  const layoutOf = (element) => {
    let at = element;
    while (parentOf(at) && /^(inline|contents)$/.test(styleOf(at).display)) at = parentOf(at);
    return at;
  };
  const addText = (element, text, box) => {
    const holder = layoutOf(element);
    const run = runs.get(holder);
    if (!run) runs.set(holder, { text, left: box.left, top: box.top, right: box.right, bottom: box.bottom });
    else {
      run.text += " " + text;
      run.left = Math.min(run.left, box.left);
      run.top = Math.min(run.top, box.top);
      run.right = Math.max(run.right, box.right);
      run.bottom = Math.max(run.bottom, box.bottom);
    }
  };
  const faulty = { clipped: new Set(), zero_size: new Set(), invisible: new Set() };
  const walker = Document.prototype.createTreeWalker.call(document, body || root, NodeFilter.SHOW_TEXT);
  const nextNode = () => TreeWalker.prototype.nextNode.call(walker);
  const range = Document.prototype.createRange.call(document);
  const skip = new Set(["script", "style", "noscript", "template", "title", "textarea", "option", "optgroup", "select",
    "meter", "progress", "video", "audio", "canvas", "object", "iframe", "datalist"]);
  for (let node = nextNode(), seen = 0; node && seen < limits.texts; node = nextNode()) {
    if (!/\S/.test(dataOf(node))) continue;
    seen += 1;
    const element = parentOf(node);
    if (!element || !(element instanceof HTMLElement) || skip.has(nameOf(element))) continue;
    if (!Element.prototype.checkVisibility.call(element, { visibilityProperty: true })) continue;
    if (readersOnly(element)) continue;
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    const size = parseFloat(styleOf(element).fontSize);
    if (size < 1 || box.width < 1 || box.height < 1) faulty.zero_size.add(element);
    else if (clipped(element, box)) faulty.clipped.add(element);
    if (invisible(element)) faulty.invisible.add(element);
    else if (size >= 1) addText(element, dataOf(node), box);
  }
  for (const kind of Object.keys(faulty)) result.faults[kind] = faulty[kind].size;
  for (const run of runs.values()) placed("text", run.text, run.left, run.top, run.right, run.bottom);

  const graphics = new Set(["img", "svg", "canvas", "video", "audio", "iframe", "object", "embed", "meter", "progress"]);
  const withText = new Set(["text", "search", "email", "url", "tel", "number", "date", "time", "month", "week",
    "datetime-local", "submit", "reset", "button"]);
  const shown = (element) => {
    const name = nameOf(element);
    if (name === "input") {
      if (!withText.has(get(HTMLInputElement.prototype, "type")(element))) return "";
      return get(HTMLInputElement.prototype, "value")(element) || get(HTMLInputElement.prototype, "placeholder")(element);
    }
    if (name === "textarea")
      return get(HTMLTextAreaElement.prototype, "value")(element) || get(HTMLTextAreaElement.prototype, "placeholder")(element);
    const index = get(HTMLSelectElement.prototype, "selectedIndex")(element);
    const option = get(HTMLSelectElement.prototype, "options")(element)[index];
    return option instanceof HTMLOptionElement ? get(HTMLOptionElement.prototype, "text")(option) : "";
  };
  const transparent = (color) => { const parts = parse(color); return !!parts && parts[3] === 0; };
  const bordered = (style) => ["Top", "Right", "Bottom", "Left"].some((side) =>
    parseFloat(style[`border${side}Width`]) > 0 && !/^(none|hidden)$/.test(style[`border${side}Style`]));
  const painted = (style) => style.backgroundImage !== "none" || !transparent(style.backgroundColor) ||
    bordered(style) || style.boxShadow !== "none";
  for (let index = 0, number = Math.min(count(), limits.texts); index < number; index += 1) {
    const element = HTMLCollection.prototype.item.call(all, index);
    const name = nameOf(element);
    const control = name === "input" || name === "select" || name === "textarea";
    if (!(element instanceof HTMLElement) && !(name === "svg" && element instanceof SVGElement)) continue;
    if (element === root || element === body) continue;
    if (!control && !graphics.has(name) && !painted(styleOf(element))) continue;
    if (!Element.prototype.checkVisibility.call(element, { visibilityProperty: true, opacityProperty: true })) continue;
    const box = boxOf(element);
    const kind = control ? "control" : graphics.has(name) ? "graphic" : "box";
    placed(kind, control ? shown(element) : "", box.left, box.top, box.right, box.bottom);
  }
  return result;
})
