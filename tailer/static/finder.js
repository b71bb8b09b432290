/** Searching a log: what was found, here and in what is not loaded, and which of it is shown. */

import { h, say } from "./dom.js";
import { blocksOf, field, makeWorker } from "./field.js";
import { logUrl } from "./load.js";
import { compile, Hits } from "./search.js";
import { Searcher } from "./searcher.js";
import * as words from "./words.js";

/** @typedef {import("./search.js").Wanted} Wanted */

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
