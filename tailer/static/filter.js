/** Filtering a log: which of its lines are shown. */

import { h, say } from "./dom.js";
import { ALL, blocksOf, field, makeWorker } from "./field.js";
import { compile } from "./search.js";
import { Searcher } from "./searcher.js";
import * as words from "./words.js";

/** @typedef {import("./search.js").Wanted} Wanted */

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
  let era = 0;

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
    era = log.store.era;
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
      if (log.store.sifting && log.store.era !== era) all();
      else look();
      if (log.store.sifting) update();
    },
    stop: () => searcher.stop(),
  };
}
