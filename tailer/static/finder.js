/** Searching a log: what was found, here and in what is not loaded, and which of it is shown. */

import { h, say } from "./dom.js";
import { blocksOf, field, makeWorker } from "./field.js";
import { Remote } from "./remote.js";
import { compile, Hits } from "./search.js";
import { Searcher } from "./searcher.js";
import * as words from "./words.js";

/**
 * @typedef {import("./search.js").Wanted} Wanted
 * @typedef {{line: number, nth: number, show: boolean}} Goal
 */

/** @type {Readonly<Goal>} */
const NO_GOAL = Object.freeze({ line: 0, nth: 0, show: false });

/**
 * Search: marks all matches, and goes from one to the next.
 *
 * @param {import("./log.js").Log} log
 * @param {import("./view.js").View} view
 * @param {{onHits: () => void, onClose: () => void, reach: (line: number) => Promise<void>}} on
 */
export function finder(log, view, on) {
  const hits = new Hits();
  const searcher = new Searcher(makeWorker);
  const remote = new Remote(log, () => update());
  /** @type {RegExp | null} */
  let pattern = null;
  let at = -1;
  let searchedTo = 0;
  let searching = false;
  let trouble = "";
  /**
   * This match of the line, or the first one behind it, is to be the current one, as soon as it is found; 0: none is.
   * Shown if somebody asked for it, but not if they have scrolled meanwhile.
   *
   * @type {Readonly<Goal>}
   */
  let goal = NO_GOAL;
  let era = 0;

  const box = field("Search", find, {
    Enter: () => step(1),
    "Shift+Enter": () => step(-1),
    Escape: () => on.onClose(),
  });
  const count = h("span.count", { role: "status" });
  const more = h("button.scan", { type: "button", onclick: searchOn });
  const far = h("span.far", { role: "status" });
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
    far,
  );

  /** @param {Wanted} wanted */
  function find(wanted) {
    const { source, error } = compile(wanted);
    box.complain(error);
    trouble = error;
    if (error) return update();
    pattern = wanted.query ? source : null;
    goal = NO_GOAL;
    searching = false;
    remote.stop();
    again();
    on.onHits();
  }

  /** Search all that is here. */
  function again() {
    hits.clear();
    at = -1;
    searchedTo = 0;
    era = log.store.era;
    if (pattern) {
      // Another object: what is still being searched for the one before must not be counted along.
      pattern = new RegExp(pattern);
      look();
      if (remote.attempt !== log.attempt || !remote.wanted) searchAll();
    } else searcher.stop();
    update();
    on.onHits();
  }

  /** Have the server search the log, if there is more of it than is here. */
  function searchAll() {
    remote.stop();
    if (missing() > 0) remote.begin(box.wanted);
  }

  function searchOn() {
    if (remote.wanted) remote.goOn();
    else remote.begin(box.wanted);
    update();
  }

  /** Lines that are neither here nor searched by the server. */
  function missing() {
    const { firstLine, lastLine } = log.store;
    const below = log.hasMoreBelow ? log.total - Math.max(lastLine, remote.line - 1) : 0;
    return Math.max(0, firstLine - remote.line) + Math.max(0, below);
  }

  /** Search what is new. */
  function look() {
    if (!pattern) return;
    const blocks = [...blocksOf(log.store, searchedTo + 1)];
    if (!blocks.length) return;
    searchedTo = blocks[blocks.length - 1].ns.at(-1) ?? searchedTo;
    searching = true;
    searcher.search(
      pattern,
      blocks,
      (found) => {
        for (const [n, start, end] of found) hits.add(n, start, end);
        const first = goal.line ? hits.from(goal.line) : hits.count;
        // All matches of a line come at once.
        const last = Math.max(first, hits.from(goal.line + 1) - 1);
        if (first < hits.count) return arrive(Math.min(first + goal.nth, last), goal.show);
        update();
        on.onHits();
      },
      () => {
        searching = false;
        if (goal.show && hits.count) arrive(0, true);
        else update();
      },
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

  /** @param {number} i  The match that is the current one from now on. @param {boolean} show */
  function arrive(i, show) {
    at = i;
    goal = NO_GOAL;
    if (show) view.show(hits.line(at), "nearest");
    update();
    on.onHits();
  }

  /** How many matches the server has found above what is here, and how many below. */
  function outside() {
    const { firstLine, lastLine } = log.store;
    const above = remote.hits.from(firstLine);
    return { above, below: remote.hits.count - Math.max(above, remote.hits.from(lastLine + 1)) };
  }

  /** @param {number} direction */
  function step(direction) {
    const { above, below } = outside();
    const here = view.firstVisible() ?? 1;
    goal = { line: searching ? here : 0, nth: 0, show: searching };
    if (!hits.count && !above && !below) return;
    const next = at >= 0 ? at + direction : direction > 0 ? hits.from(here) : hits.from(here + 1) - 1;
    const all = remote.hits;
    if (next >= 0 && next < hits.count) return arrive(next, true);
    if (direction > 0 && below) return void reach(all.line(all.count - below));
    if (direction > 0 && above) return void reach(all.line(0));
    if (direction < 0 && above) return void reach(all.line(above - 1), Infinity);
    if (direction < 0 && below) return void reach(all.line(all.count - 1), Infinity);
    arrive(direction > 0 ? 0 : hits.count - 1, true);
  }

  /** @param {number} line  One that is not here. @param {number} nth  Which of its matches, if it has so many. */
  async function reach(line, nth = 0) {
    at = -1;
    goal = { line, nth, show: false };
    await on.reach(line);
    again();
  }

  function update() {
    const { above, below } = outside();
    const total = `${words.count(above + hits.count + below)}${remote.busy || remote.state === "limited" ? "+" : ""}`;
    if (trouble) say(count, trouble);
    else if (!pattern) say(count, "");
    else if (hits.count || above || below) say(count, at >= 0 ? `${words.count(above + at + 1)} of ${total}` : total);
    else say(count, remote.busy ? "no match yet" : "no match");
    count.classList.toggle("bad", Boolean(trouble));
    updateMore();
  }

  function updateMore() {
    const left = missing();
    const searched = `searched ${remote.percent} %`;
    const refused = remote.state === "refused";
    let told = "";
    if (remote.state === "running") told = searched;
    else if (remote.state === "waiting") told = `${searched}, the server is away`;
    else if (refused) told = `lines not loaded cannot be searched: ${remote.trouble}`;
    say(far, pattern ? told : "");
    far.classList.toggle("bad", refused);
    more.hidden = !pattern || remote.busy || refused || left <= 0;
    say(more, `Search ${words.plural(left, "more line")}`);
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
      remote.stop();
      again();
    },
    /** There are other rows. */
    refresh() {
      if (!pattern || log.store.era === era) {
        at = Math.max(-1, at - hits.drop(log.store.firstLine));
        return look();
      }
      if (at >= 0) goal = { line: hits.line(at), nth: at - hits.from(hits.line(at)), show: false };
      again();
    },
    /** @param {import("./store.js").Line} row @returns {[number, number][]}  Where the matches are in its text. */
    partsOf: (row) => (pattern ? hits.parts(row.n) : []),
    /** @returns {{line: number, part: [number, number]} | null} */
    current: () => (pattern && at >= 0 && at < hits.count ? { line: hits.line(at), part: hits.part(at) } : null),
    /** @returns {Iterable<number>}  Lines with matches, here and elsewhere. */
    lines: () => (pattern ? [...hits.lines(), ...remote.hits.lines()] : []),
    stop() {
      pattern = null;
      searcher.stop();
      remote.stop();
    },
  };
}
