/** What searching and filtering share: the field for what is wanted, and the worker that looks for it. */

import { h } from "./dom.js";

const SOON_MS = 120;
export const ALL = { query: "", regex: false, matchCase: false, word: false };

/** @typedef {import("./search.js").Wanted} Wanted */

/** @returns {Worker}  Its URL is the only string that this page makes code of. */
export function makeWorker() {
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
export function field(label, onWanted, keys) {
  /** @type {Wanted} */
  const wanted = { ...ALL };
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const now = () => {
    clearTimeout(timer);
    timer = undefined;
    onWanted(wanted);
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(now, SOON_MS);
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
        // Who types fast and ends with Enter means what is written, not what was a moment ago.
        if (timer) now();
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
export function* blocksOf(/** @type {import("./store.js").Store} */ store, from = 0) {
  const open = new Set(store.unread);
  for (const { rows } of store.blocks) {
    if (rows[rows.length - 1].n < from) continue;
    const some = rows.filter((row) => row.n >= from && !open.has(row));
    if (some.length) yield { texts: some.map((row) => row.text), ns: some.map((row) => row.n), rows: some };
  }
}
