// Before any script of the page, in its own world: a clock that starts at the same instant for every page, and limits on
// what floods the pipe to the browser or the machine's cores. A convenience, never the boundary: a page that gets around
// it is stopped by what records its events, the deadlines and the memory watch.
(() => {
  const guard = (START) => {
    const NativeDate = Date;
    const offset = START - NativeDate.now();
    const now = () => NativeDate.now() + offset;
    const Fixed = new Proxy(NativeDate, {
      construct: (target, args, newTarget) => Reflect.construct(target, args.length ? args : [now()], newTarget),
      apply: () => new NativeDate(now()).toString(),
      get: (target, name) => (name === "now" ? now : Reflect.get(target, name)),
    });
    NativeDate.prototype.constructor = Fixed;
    globalThis.Date = Fixed;
    const limit = (object, names, most) => {
      let left = most;
      for (const name of names) {
        const native = object[name];
        object[name] = function (...args) {
          return left-- > 0 ? Reflect.apply(native, this, args) : undefined;
        };
      }
    };
    const says = ["log", "info", "debug", "warn", "error", "trace", "dir", "dirxml", "table", "assert", "group"];
    limit(console, [...says, "groupCollapsed", "groupEnd", "count", "clear", "timeEnd", "timeLog"], 200);
    if (globalThis.History) limit(History.prototype, ["pushState", "replaceState"], 200);
    // A headless window learns its outer size some time after its page began: 0 or the real one, by chance.
    for (const [name, side] of globalThis.screen ? [["outerWidth", "width"], ["outerHeight", "height"]] : []) {
      const replace = (value) => Object.defineProperty(globalThis, name, { value, writable: true });
      const get = () => screen[side];
      Object.defineProperty(globalThis, name, { get, set: replace, enumerable: true, configurable: true });
    }
  };
  guard(START);
  // What every desktop browser has and the headless shell has not: here without permission, and without a voice.
  const missing = (name, value) => name in globalThis ||
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  missing("Notification", class Notification extends EventTarget {
    static permission = "denied";
    static async requestPermission(done) { done?.("denied"); return "denied"; }
    close() {}
  });
  missing("SpeechSynthesisUtterance", class SpeechSynthesisUtterance extends EventTarget {
    constructor(text = "") { super(); Object.assign(this, { text, lang: "", voice: null, volume: 1, rate: 1, pitch: 1 }); }
  });
  missing("speechSynthesis", Object.assign(new EventTarget(), { speaking: false, pending: false, paused: false,
    onvoiceschanged: null, getVoices: () => [], speak() {}, cancel() {}, pause() {}, resume() {} }));
  // A page that has the focus may copy: it is told that it did, and nothing is copied.
  for (const name of globalThis.Clipboard ? ["writeText", "write"] : []) Clipboard.prototype[name] = async () => {};
  if (globalThis.ServiceWorkerContainer) ServiceWorkerContainer.prototype.register = async () => {};
  if (!globalThis.Worker) return;
  // Only blob: and data: workers can start at all without a network; theirs is a world of its own, guarded likewise.
  let left = 2;
  const NativeWorker = Worker;
  const text = `(${guard})(${START});`;
  globalThis.Worker = new Proxy(NativeWorker, {
    construct: (target, [url, options], newTarget) => {
      if (left-- <= 0) return Reflect.construct(target, ["data:text/javascript,"], newTarget);
      if (options?.type === "module" || !/^(blob|data):/.test(url)) return Reflect.construct(target, [url, options], newTarget);
      const guarded = new Blob([`${text}importScripts(${JSON.stringify(String(url))});`], { type: "text/javascript" });
      return Reflect.construct(target, [URL.createObjectURL(guarded), options], newTarget);
    },
  });
})();
