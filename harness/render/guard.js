// Before any script of the page, in its own world: a clock that starts at the same instant for every page, and a limit
// on console floods, which would drown the pipe to the browser. A convenience, never the boundary.
(() => {
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
  let left = 200;
  for (const name of ["log", "info", "debug", "warn", "error", "trace", "dir", "table", "assert", "group", "count", "clear"]) {
    const native = console[name].bind(console);
    console[name] = (...args) => {
      if (left-- > 0) native(...args);
    };
  }
})();
