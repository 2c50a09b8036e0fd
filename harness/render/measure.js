// Runs in an isolated world: the page's scripts can't change what is called here. Only DOM clobbering reaches across
// (a form control named "children" hides form.children), so every access goes through the prototypes.
(async (part, limits) => {
  const get = (proto, name) => {
    const getter = Object.getOwnPropertyDescriptor(proto, name).get;
    return (object) => getter.call(object);
  };
  const rootOf = get(Document.prototype, "documentElement");
  let root = rootOf(document);
  const parentInTree = get(Node.prototype, "parentElement");
  const parentNodeOf = get(Node.prototype, "parentNode");
  const hostOf = get(ShadowRoot.prototype, "host");
  const slotOfText = get(Text.prototype, "assignedSlot");
  const slotOfElement = get(Element.prototype, "assignedSlot");
  const slotOf = (node) => (node instanceof Text ? slotOfText : slotOfElement)(node);
  const parentOf = (node) => {
    const parent = parentNodeOf(node);
    return slotOf(node) || (parent instanceof ShadowRoot ? hostOf(parent) : parentInTree(node));
  };
  const dataOf = get(CharacterData.prototype, "data");
  const scrollWidth = get(Element.prototype, "scrollWidth");
  const scrollHeight = get(Element.prototype, "scrollHeight");
  const boxOf = (element) => Element.prototype.getBoundingClientRect.call(element);
  const nameOf = get(Element.prototype, "localName");
  const shadowOf = get(Element.prototype, "shadowRoot");

  const all = Document.prototype.getElementsByTagName.call(document, "*");
  const lengthOf = get(HTMLCollection.prototype, "length");
  const count = () => lengthOf(all);

  const elementsOf = (tree) =>
    (tree === document ? Document : DocumentFragment).prototype.querySelectorAll.call(tree, "*");
  // The document and the open shadow trees in it, each behind the one that holds its host.
  const trees = () => {
    const found = [document];
    for (const tree of found)
      for (const element of elementsOf(tree))
        if (shadowOf(element)) found.push(shadowOf(element));
    return found;
  };
  // Animations and transitions are brought to their end, those without one lose their effect: a picture in their midst
  // would show another moment each time, and widths that no reader is left with. What is paused stands still anyway.
  // Whether there were any.
  const endAnimations = () => {
    // The browser puts them in order first, in a time that grows with the square of their number.
    if (count() > limits.texts) return false;
    const running = trees().flatMap((tree) => tree === document
      ? Document.prototype.getAnimations.call(tree) : ShadowRoot.prototype.getAnimations.call(tree))
      .filter((animation) => animation.playState !== "paused");
    // All are asked before the first is ended: each question after that would compute the styles anew.
    const ends = running.slice(0, limits.texts)
      .filter((animation) => animation.timeline instanceof DocumentTimeline && animation.effect)
      .map((animation) => [animation, animation.effect.getComputedTiming().endTime]);
    for (const [animation, end] of ends) {
      try {
        if (end === Infinity) {
          animation.effect.setKeyframes(null); // to cancel it would fail a script that waits for its end
          animation.pause();
        } else animation.finish();
      } catch { /* paused for good: a rate of 0 has no end */ }
    }
    return running.length > 0;
  };

  const geometry = () => {
    if (!root) return { url: location.href, overflow: 0, height: 0 };
    // What scrolls the window: the root, in quirks mode the body. The window's width is innerWidth, scrollbars are hidden.
    const scroller = get(Document.prototype, "scrollingElement")(document) || root;
    return {
      url: location.href,
      overflow: Math.max(0, scrollWidth(scroller) - window.innerWidth),
      height: Math.ceil(Math.max(scrollHeight(scroller), boxOf(root).bottom + window.scrollY)),
    };
  };
  if (part === "geometry") {
    endAnimations();
    return geometry();
  }

  if (part === "ready" || part === "whole") {
    const state = get(Document.prototype, "readyState");
    // One that a script writes anew after that never completes, unless the script closes it.
    const wasLoaded = () => get(Performance.prototype, "timing")(performance).loadEventEnd > 0;
    const loaded = new Promise((done) => {
      addEventListener("load", done, { once: true });
      // A document that is too large is not waited for.
      const look = () => state(document) === "complete" || wasLoaded() || count() > limits.elements ? done() : setTimeout(look, 50);
      look();
    });
    await loaded;
    if (part === "ready") return { url: location.href };
  }

  // Counted first: the layout of a huge document can take longer than anyone waits.
  if (count() > limits.elements) return { url: location.href, overflow: 0, height: 0, elements: count(), text: "", faults: {}, blocks: [] };

  // Settle: two frames and the fonts, but never longer than the limit, for a page can starve frames and timers.
  const settle = () => {
    const frames = new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))));
    const late = new Promise((done) => setTimeout(done, limits.settle));
    return Promise.race([Promise.all([frames, get(Document.prototype, "fonts")(document).ready]), late]);
  };
  await settle();
  if (endAnimations()) {
    await settle(); // what a script does at their end
    endAnimations();
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
  const roots = trees();
  const texts = function* () {
    for (const tree of roots) {
      const top = tree === document ? body || root : tree;
      const walker = Document.prototype.createTreeWalker.call(document, top, NodeFilter.SHOW_TEXT);
      for (let node; (node = TreeWalker.prototype.nextNode.call(walker)); ) yield node;
    }
  };
  // Words of an element that shows its shadow tree instead, and of a slot that shows others.
  const replaced = (node) => {
    const parent = parentInTree(node);
    if (!parent || slotOf(node)) return false;
    return !!shadowOf(parent) || (parent instanceof HTMLSlotElement && HTMLSlotElement.prototype.assignedNodes.call(parent).length > 0);
  };
  const range = Document.prototype.createRange.call(document);
  const skip = new Set(["script", "style", "noscript", "template", "title", "textarea", "option", "optgroup", "select",
    "meter", "progress", "video", "audio", "canvas", "object", "iframe", "datalist"]);
  let seen = 0;
  for (const node of texts()) {
    if (!/\S/.test(dataOf(node))) continue;
    if ((seen += 1) > limits.texts) break;
    const element = parentOf(node);
    if (!element || !(element instanceof HTMLElement) || skip.has(nameOf(element)) || replaced(node)) continue;
    let boxed = element;
    while (boxed && styleOf(boxed).display === "contents") boxed = parentOf(boxed);
    if (!boxed || !Element.prototype.checkVisibility.call(boxed, { visibilityProperty: true })) continue;
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

  const graphics = new Set(["img", "svg", "math", "canvas", "video", "audio", "iframe", "object", "embed", "meter", "progress"]);
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
  const elements = roots.flatMap((tree) => [...elementsOf(tree)]);
  for (const element of elements.slice(0, limits.texts)) {
    const name = nameOf(element);
    const control = name === "input" || name === "select" || name === "textarea";
    if (!(element instanceof HTMLElement) && !(name === "svg" && element instanceof SVGElement) &&
      !(name === "math" && element instanceof MathMLElement)) continue;
    if (element === root || element === body) continue;
    if (!control && !graphics.has(name) && !painted(styleOf(element))) continue;
    if (!Element.prototype.checkVisibility.call(element, { visibilityProperty: true, opacityProperty: true })) continue;
    const box = boxOf(element);
    const kind = control ? "control" : graphics.has(name) ? "graphic" : "box";
    placed(kind, control ? shown(element) : "", box.left, box.top, box.right, box.bottom);
  }
  return result;
})
