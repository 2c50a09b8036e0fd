// What Python writes into the pages, and what the modules hand to each other. Read by the type check alone.

export type Scale = "binary" | "share" | "percent";

/** The light list of every task: `gallery` in harness/report/payload.py. */
export interface Gallery {
  suites: { name: string; title: string; pair: string }[];
  models: { name: string; control: boolean }[];
  metrics: { name: string; label: string; scale: Scale; primary: boolean; kind: string }[];
  /** Why checks fail, and words for what became of a page; tasks hold places in these lists. */
  whys: string[];
  words: string[];
  /** Tasks whose texts are packed together. */
  chunk: number;
  tasks: Task[];
}

/** One task: suite, id, start of the prompt, category, difficulty, and by model its answers. */
export interface Task {
  s: string;
  id: string;
  p: string;
  c: string;
  d: string;
  r: Light[][];
}

/** One answer of the light list: -1 for a metric that does not apply, null for one that was not measured. */
export type Light = [outcome: number, scores: (number | null)[], desktop: string, phone: string, failed: number[], messages: number, sample: number];

/** What only an opened task needs: `_texts` in harness/report/payload.py. */
export interface Texts {
  prompt: string;
  input: string;
  reference: string;
  answers: Answer[];
}

/** One answer as samples.jsonl has it (docs/files.md), less what is empty; `m` is the model's place, `n` the sample. */
export interface Answer {
  m: number;
  n: number;
  /** Left out where it is the page itself, and `same` says so. */
  completion?: string;
  same?: true;
  page?: string;
  extraction?: { kind: string; truncated?: boolean };
  finish_reason?: string;
  notes?: Record<string, string>;
  messages?: Message[];
  checks?: Check[];
  render?: Rendering;
  timing?: { generate_s?: number | null; render_s?: number | null; prompt_tokens?: number | null; completion_tokens?: number | null };
}

export interface Message {
  source?: string;
  text?: string;
  line?: number | null;
  column?: number | null;
  code?: string;
}

export interface Check {
  why?: string;
  level?: string;
  passed: boolean;
  detail?: string;
}

export interface Rendering {
  detail?: string;
  visible_characters?: number;
  painted_share?: number | null;
  errors?: string[];
  console_errors?: string[];
  blocked?: string[];
  /** By the window's width in px: how much wider the page is, in px. */
  overflow?: Record<string, number>;
  text_faults?: Record<string, number>;
  /** What axe-core found; null where it did not run. */
  accessibility?: { id?: string; help?: string; impact?: string | null; nodes?: number | unknown[] }[] | null;
  dom_hash?: string;
  stable?: boolean | null;
}

/** The list of runs: `_numbers` in harness/report/overview.py. */
export interface Overview {
  runs: Run[];
}

export interface Run {
  name: string;
  folder: string;
  models: string[];
  suites: Record<string, MeasuredSuite>;
}

export interface MeasuredSuite {
  title: string;
  split: string | null;
  metrics: { name: string; label: string; scale: Scale; primary: boolean; version: number | null; models: Record<string, Interval> }[];
}

export type Interval = [mean: number | null, low: number | null, high: number | null];

/** A task that the filters leave, and its change between the two models in points, null where it has none. */
export interface Item {
  index: number;
  change: number | null;
}

export type Way = "better" | "worse" | "open";

/** What `h` takes: nothing at all comes of null, undefined and false. */
export type Child = Node | string | number | false | null | undefined | Child[];
export type Handlers = { [name in keyof HTMLElementEventMap]?: (event: HTMLElementEventMap[name]) => void };
export interface Attributes {
  on?: Handlers;
  [name: string]: string | number | boolean | null | undefined | Handlers;
}

/** A piece of highlighted text and its class, "" for none. */
export type Piece = [kind: string, text: string];
export type Edit = [sign: " " | "-" | "+", line: string];
/** An edit, or how many equal lines were folded. */
export type Folded = Edit | [sign: "...", count: number];

export type Option = [value: string, label: string];
export interface OptionGroup {
  group: string;
  options: Option[];
}

declare global {
  /** https://w3c.github.io/trusted-types: not there in every browser; what a policy makes goes where strings go. */
  var trustedTypes: { createPolicy(name: string, rules: { createHTML(text: string): string }): { createHTML(text: string): string } } | undefined;
}
