/** Searching and filtering a log: what is looked for, what was found, and which of it is shown. */

import { h, say } from "./dom.js";
import { logUrl } from "./load.js";
import { compile, Hits } from "./search.js";
import { Searcher } from "./searcher.js";
import * as words from "./words.js";

const SOON_MS = 120;
const ALL = { query: "", regex: false, matchCase: false, word: false };

/** @typedef {{query: string, regex: boolean, matchCase: boolean, word: boolean}} Wanted */

/** @returns {Worker}  Its URL is the only string that this page makes code of. */
function makeWorker() {
  const url = new URL("./search-worker.js", import.meta.url).href;
  const types = /** @type {any} */ (globalThis).trustedTypes;
  policy ??= types?.createPolicy("tailer-worker", { createScriptURL: () => url }) ?? null;
  return new Worker(policy ? policy.createScriptURL("") : url, { type: "module" });
}
/** @type {any} */
let policy;

/**
 * A field with its switches.
 *
 * @param {string} label
 * @param {(wanted: Wanted) => void} onWanted
 * @param {Record<string, () => void>} keys  What else a key does in the field.
 */
function field(label, onWanted, keys) {
  /** @type {Wanted} */
  const wanted = { ...ALL };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => onWanted(wanted), SOON_MS);
  };
  const input = /** @type {HTMLInputElement} */ (
    h("input", {
      type: "search",
      placeholder: label,
      "aria-label": label,
      spellcheck: false,
      autocapitalize: "off",
      autocomplete: "off",
      oninput: () => {
        wanted.query = input.value;
        soon();
      },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const key = (event.shiftKey ? "Shift+" : "") + event.key;
        if (!keys[key]) return;
        event.preventDefault();
        keys[key]();
      },
    })
  );
  /** @param {"regex" | "matchCase" | "word"} name @param {string} sign @param {string} title */
  const option = (name, sign, title) => {
    const button = h("button.option", { type: "button", title, "aria-label": title, "aria-pressed": "false" }, sign);
    button.onclick = () => {
      wanted[name] = !wanted[name];
      button.setAttribute("aria-pressed", String(wanted[name]));
      onWanted(wanted);
    };
    return button;
  };
  const options = [
    option("matchCase", "Aa", "Match case"),
    option("word", "W", "Whole words"),
    option("regex", ".*", "Regular expression"),
  ];
  return {
    input,
    options,
    wanted,
    /** @param {Partial<Wanted>} given */
    set(given) {
      Object.assign(wanted, given);
      input.value = wanted.query;
      options[0].setAttribute("aria-pressed", String(wanted.matchCase));
      options[1].setAttribute("aria-pressed", String(wanted.word));
      options[2].setAttribute("aria-pressed", String(wanted.regex));
    },
    /** @param {string} error */
    complain(error) {
      input.setAttribute("aria-invalid", String(Boolean(error)));
      input.title = error;
    },
  };
}

/** Rows that have all their text, from line `from` on, block by block. */
function* blocksOf(/** @type {import("./store.js").Store} */ store, from = 0) {
  const open = new Set(store.unread);
  for (const { rows } of store.blocks) {
    if (rows[rows.length - 1].n < from) continue;
    const some = rows.filter((row) => row.n >= from && !open.has(row));
    if (some.length) yield { texts: some.map((row) => row.text), ns: some.map((row) => row.n), rows: some };
  }
}

/**
 * Search: marks all matches, and goes from one to the next.
 *
 * @param {import("./log.js").Log} log
 * @param {import("./view.js").View} view
 * @param {{onHits: () => void, onClose: () => void, reach: (line: number) => Promise<void>}} on
 */
export function finder(log, view, on) {
  const hits = new Hits();
  const elsewhere = new Hits();
  const searcher = new Searcher(makeWorker);
  const scanner = new Searcher(makeWorker);
  /** @type {RegExp | null} */
  let pattern = null;
  let at = -1;
  let searchedTo = 0;
  let trouble = "";
  let scanned = "";
  /** @type {import("./store.js").Block | undefined} */
  let top;

  const box = field("Search", find, {
    Enter: () => step(1),
    "Shift+Enter": () => step(-1),
    Escape: () => on.onClose(),
  });
  const count = h("span.count", { role: "status" });
  const more = h("button.scan", { type: "button", onclick: scan });
  const element = h(
    "div.bar.find",
    { role: "search", hidden: true },
    box.input,
    ...box.options,
    count,
    h("button.icon", { type: "button", title: "Match before (N)", "aria-label": "Match before", onclick: () => step(-1) }, "↑"),
    h("button.icon", { type: "button", title: "Next match (n)", "aria-label": "Next match", onclick: () => step(1) }, "↓"),
    more,
    h("button.icon", { type: "button", title: "Close", "aria-label": "Close the search", onclick: () => on.onClose() }, "✕"),
  );

  /** @param {Wanted} wanted */
  function find(wanted) {
    const { source, error } = compile(wanted);
    box.complain(error);
    trouble = error;
    if (error) return update();
    pattern = wanted.query ? source : null;
    elsewhere.clear();
    scanner.stop();
    scanned = "";
    again();
    on.onHits();
  }

  /** Search all that is here. */
  function again() {
    hits.clear();
    at = -1;
    searchedTo = 0;
    top = log.store.blocks[0];
    if (pattern) look();
    else searcher.stop();
    update();
    on.onHits();
  }

  /** Search what is new. */
  function look() {
    if (!pattern) return;
    const blocks = [...blocksOf(log.store, searchedTo + 1)];
    if (!blocks.length) return;
    searchedTo = blocks[blocks.length - 1].ns.at(-1) ?? searchedTo;
    searcher.search(
      pattern,
      blocks,
      (found) => {
        for (const [n, start, end] of found) hits.add(n, start, end);
        update();
        on.onHits();
      },
      () => update(),
      () => {
        trouble = "the expression takes too long";
        box.complain(trouble);
        pattern = null;
        hits.clear();
        update();
        on.onHits();
      },
    );
  }

  /** Search what the page does not hold: the server sends it, and nothing of it is kept. */
  function scan() {
    if (!pattern) return;
    elsewhere.clear();
    const url = logUrl(log.base, log.job, log.attempt, "&ansi=strip");
    const { firstLine, nextLine } = log.store;
    scanner.scan(
      pattern,
      url,
      1,
      (found) => {
        for (const [n, start, end] of found) if (n < firstLine || n >= nextLine) elsewhere.add(n, start, end);
        update();
      },
      (line) => {
        scanned = `scanned to line ${words.count(line)}`;
        update();
      },
      () => {
        scanned = "all lines scanned";
        update();
      },
    );
  }

  /** @param {number} direction */
  function step(direction) {
    if (!hits.count && !elsewhere.count) return;
    const here = at >= 0 ? hits.line(at) : (view.firstVisible() ?? 0) - (direction > 0 ? 0 : -1);
    const outside = nextOutside(direction, here);
    const next = at < 0 ? (direction > 0 ? hits.from(here) : hits.from(here) - 1) : at + direction;
    if (next >= 0 && next < hits.count) at = next;
    else if (outside !== null) return void on.reach(outside).then(() => again());
    else at = direction > 0 ? 0 : hits.count - 1;
    if (hits.count) view.show(hits.line(at), "nearest");
    update();
    on.onHits();
  }

  /** @param {number} direction @param {number} here @returns {number | null} */
  function nextOutside(direction, here) {
    const i = direction > 0 ? elsewhere.from(here + 1) : elsewhere.from(here) - 1;
    return i >= 0 && i < elsewhere.count ? elsewhere.line(i) : null;
  }

  function update() {
    const missing = log.total - (log.store.lastLine - log.store.firstLine + 1);
    const others = elsewhere.count ? ` (+ ${words.count(elsewhere.count)} not loaded)` : "";
    if (trouble) say(count, trouble);
    else if (!pattern) say(count, "");
    else if (!hits.count && !elsewhere.count) say(count, "no match");
    else say(count, `${at >= 0 ? `${words.count(at + 1)} of ` : ""}${words.count(hits.count)}${others}`);
    count.classList.toggle("bad", Boolean(trouble));
    more.hidden = !pattern || missing <= 0;
    say(more, scanned || `Search ${words.plural(missing, "more line")}`);
  }

  return {
    element,
    step,
    update,
    wanted: box.wanted,
    get shown() {
      return !element.hidden;
    },
    get active() {
      return pattern !== null;
    },
    /** @param {Partial<Wanted>} [given] */
    open(given) {
      element.hidden = false;
      if (given) {
        box.set(given);
        find(box.wanted);
      } else {
        box.input.focus();
        box.input.select();
        find(box.wanted);
      }
    },
    close() {
      element.hidden = true;
      pattern = null;
      again();
    },
    /** There are other rows. */
    refresh() {
      if (pattern && log.store.blocks[0] !== top) again();
      else look();
    },
    /** @param {import("./store.js").Line} row @returns {[number, number][]}  Where the matches are in its text. */
    partsOf: (row) => (pattern ? hits.parts(row.n) : []),
    /** @returns {{line: number, part: [number, number]} | null} */
    current: () => (pattern && at >= 0 && at < hits.count ? { line: hits.line(at), part: hits.part(at) } : null),
    /** @returns {Iterable<number>}  Lines with matches, here and elsewhere. */
    lines: () => (pattern ? [...hits.lines(), ...elsewhere.lines()] : []),
    stop() {
      searcher.stop();
      scanner.stop();
    },
  };
}

/**
 * Filter: shows only lines that match, or do not, with some around them.
 *
 * @param {import("./log.js").Log} log
 * @param {{onSifted: () => void, onClose: () => void}} on
 */
export function filter(log, on) {
  const searcher = new Searcher(makeWorker);
  /** @type {RegExp | null} */
  let pattern = null;
  let inverse = false;
  let context = 0;
  let level = "";
  let stderr = false;
  let siftedTo = 0;
  let trouble = "";
  /** @type {import("./store.js").Block | undefined} */
  let top;

  const box = field("Filter", sift, { Escape: () => on.onClose() });
  const not = h("button.option", { type: "button", title: "Lines that do not match", "aria-pressed": "false" }, "not");
  not.onclick = () => {
    inverse = !inverse;
    not.setAttribute("aria-pressed", String(inverse));
    sift();
  };
  const around = /** @type {HTMLSelectElement} */ (
    h(
      "select",
      { "aria-label": "Lines around", title: "Lines around each match", onchange: () => set({ context: Number(around.value) }) },
      ...[0, 1, 3, 10].map((n) => h("option", { value: String(n) }, `±${n}`)),
    )
  );
  const levels = /** @type {HTMLSelectElement} */ (
    h(
      "select",
      { "aria-label": "Level", onchange: () => set({ level: levels.value }) },
      ...[["", "all levels"], ["warning", "warnings"], ["error", "errors"]].map(([value, text]) => h("option", { value }, text)),
    )
  );
  const errors = h(
    "button.option",
    { type: "button", "aria-pressed": "false", title: "stderr only (s)", onclick: () => set({ stderr: !stderr }) },
    "stderr",
  );
  const count = h("span.count", { role: "status" });
  const element = h(
    "div.bar.filter",
    { role: "search", "aria-label": "Filter", hidden: true },
    box.input,
    ...box.options,
    not,
    around,
    levels,
    errors,
    count,
    h("button.icon", { type: "button", title: "Close", "aria-label": "Close the filter", onclick: () => on.onClose() }, "✕"),
  );

  /** @param {{context?: number, level?: string, stderr?: boolean, inverse?: boolean}} given */
  function set(given) {
    ({ context = context, level = level, stderr = stderr, inverse = inverse } = given);
    around.value = String(context);
    levels.value = level;
    errors.setAttribute("aria-pressed", String(stderr));
    not.setAttribute("aria-pressed", String(inverse));
    sift();
  }

  function sift() {
    const { source, error } = compile(box.wanted);
    box.complain(error);
    trouble = error;
    if (!error) {
      pattern = box.wanted.query ? source : null;
      all();
    }
    update();
  }

  /** Sift all that is here. */
  function all() {
    siftedTo = 0;
    top = log.store.blocks[0];
    searcher.stop();
    log.store.sieve(Boolean(pattern || level || stderr), context);
    look();
    on.onSifted();
  }

  /** Sift what is new. */
  function look() {
    if (!log.store.sifting) return;
    const blocks = [...blocksOf(log.store, siftedTo + 1)];
    if (!blocks.length) return;
    siftedTo = blocks[blocks.length - 1].ns.at(-1) ?? siftedTo;
    if (!pattern) {
      for (const { rows } of blocks) for (const row of rows) log.store.sift(row, wants(row));
      return;
    }
    let next = 0;
    searcher.search(
      pattern,
      blocks,
      (found) => {
        const matched = new Set(found.map(([n]) => n));
        for (const row of blocks[next++].rows) log.store.sift(row, matched.has(row.n) !== inverse && wants(row));
        on.onSifted();
        update();
      },
      () => update(),
      () => {
        trouble = "the expression takes too long";
        box.complain(trouble);
        pattern = null;
        all();
        update();
      },
    );
  }

  /** @param {import("./store.js").Line} row */
  function wants(row) {
    return (!stderr || row.err) && log.store.isLevel(row, level);
  }

  function update() {
    const { shown } = log.store;
    say(count, trouble || (log.store.sifting ? `${words.count(shown)} of ${words.plural(log.store.rows, "line")}` : ""));
    count.classList.toggle("bad", Boolean(trouble));
  }

  return {
    element,
    update,
    set,
    get state() {
      return { wanted: box.wanted, inverse, context, level, stderr };
    },
    get on() {
      return log.store.sifting;
    },
    /** @param {Partial<Wanted>} [given] */
    open(given) {
      element.hidden = false;
      if (given) box.set(given);
      else box.input.focus();
      sift();
    },
    close() {
      element.hidden = true;
      box.set(ALL);
      set({ context: 0, level: "", stderr: false, inverse: false });
    },
    /** There are other rows. */
    refresh() {
      if (log.store.sifting && log.store.blocks[0] !== top) all();
      else look();
      if (log.store.sifting) update();
    },
    stop: () => searcher.stop(),
  };
}
