/** What is looked for, and what was found: a pattern, and matches in the order of lines. */

/** @typedef {{query: string, regex: boolean, matchCase: boolean, word: boolean}} Wanted */
/** @typedef {[n: number, start: number, end: number]} Hit */

/** Most matches of one line: no one looks at more, and a page of dots would have millions. */
const MOST_IN_LINE = 1000;
/** No word goes on here; with the flag "u", letters of all scripts make words. */
const EDGES = Object.freeze({
  u: ["(?<![\\p{L}\\p{M}\\p{N}_])(?:", ")(?![\\p{L}\\p{M}\\p{N}_])"],
  "": ["(?<!\\w)(?:", ")(?!\\w)"],
});

/**
 * @param {Wanted} wanted
 * @returns {{source: RegExp | null, error: string}}  No pattern if nothing is looked for, or it is not well-formed.
 */
export function compile({ query, regex, matchCase, word }) {
  if (!query) return { source: null, error: "" };
  const source = regex ? query : query.replace(/[\^$\\.*+?()[\]{}|/]/g, "\\$&");
  let error = "";
  // What people write as an expression may be well-formed without the flag "u" only: "\-", "{".
  for (const unicode of /** @type {const} */ (["u", ""])) {
    try {
      const flags = `g${matchCase ? "" : "i"}${unicode}`;
      const plain = new RegExp(source, flags);
      const [before, after] = EDGES[unicode];
      return { source: word ? new RegExp(before + source + after, flags) : plain, error: "" };
    } catch (failure) {
      error ||= failure instanceof Error ? failure.message : String(failure);
    }
  }
  return { source: null, error: error.replace(/^Invalid regular expression: \/.*\/\w*: /s, "") };
}

/**
 * Matches in a text. Where an expression matches nothing but emptiness (`^$`, `x*`), one empty match stands for all.
 *
 * @param {string} text
 * @param {RegExp} re  With the flag "g".
 * @returns {[start: number, end: number][]}
 */
export function hitsIn(text, re) {
  /** @type {[number, number][]} */
  const hits = [];
  let empty = -1;
  re.lastIndex = 0;
  for (let match = re.exec(text); match && hits.length < MOST_IN_LINE; match = re.exec(text)) {
    const { index } = match;
    const end = index + match[0].length;
    if (end > index) hits.push([index, end]);
    else {
      if (empty < 0) empty = index;
      // With the flag "u", a start between two surrogates would lead back to the same match.
      re.lastIndex = end + ((text.codePointAt(end) ?? 0) > 0xffff ? 2 : 1);
    }
  }
  if (!hits.length && empty >= 0) hits.push([empty, empty]);
  return hits;
}

/**
 * @param {readonly string[]} texts
 * @param {RegExp} pattern
 * @param {number} [limit]  Most matches.
 * @returns {[index: number, start: number, end: number][]}
 */
export function find(texts, pattern, limit = Infinity) {
  /** @type {[number, number, number][]} */
  const found = [];
  for (let i = 0; i < texts.length && found.length < limit; i++) {
    // Nearly all lines have none: a test alone makes no objects for them.
    pattern.lastIndex = 0;
    if (!pattern.test(texts[i])) continue;
    for (const [start, end] of hitsIn(texts[i], pattern)) {
      if (found.length < limit) found.push([i, start, end]);
    }
  }
  return found;
}

/** Matches in the order of their lines: twelve bytes each, for logs of a million lines. */
export class Hits {
  count = 0;
  all = new Uint32Array(3 * 64);

  clear() {
    this.count = 0;
    this.all = new Uint32Array(3 * 64);
  }

  /** @param {number} n @param {number} start @param {number} end */
  add(n, start, end) {
    if (3 * this.count === this.all.length) {
      const more = new Uint32Array(2 * this.all.length);
      more.set(this.all);
      this.all = more;
    }
    // Nearly always they come in order, and go to the end.
    let i = this.count;
    if (i && this.line(i - 1) > n) i = this.from(n + 1);
    this.all.copyWithin(3 * i + 3, 3 * i, 3 * this.count);
    this.all.set([n, start, end], 3 * i);
    this.count += 1;
  }

  /** @param {number} n  Let go of those in line `n` and behind it. */
  cut(n) {
    this.count = this.from(n);
  }

  /** @param {number} n  Let go of those before line `n`. @returns {number}  How many they were. */
  drop(n) {
    const gone = this.from(n);
    this.all.copyWithin(0, 3 * gone, 3 * this.count);
    this.count -= gone;
    return gone;
  }

  /** @param {number} i @returns {number} */
  line(i) {
    return this.all[3 * i];
  }

  /** @param {number} i @returns {[start: number, end: number]} */
  part(i) {
    return [this.all[3 * i + 1], this.all[3 * i + 2]];
  }

  /** @param {number} n @returns {number}  Index of the first one in line `n` or behind it; `count` if there is none. */
  from(n) {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.line(middle) < n) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param {number} i @returns {number}  The one after it, from the last to the first; -1: there is none. */
  next(i) {
    if (!this.count) return -1;
    return i + 1 < this.count ? i + 1 : 0;
  }

  /** @param {number} i @returns {number}  The one before it, from the first to the last; -1: there is none. */
  prev(i) {
    return i > 0 ? Math.min(i, this.count) - 1 : this.count - 1;
  }

  /** @param {number} n @returns {[start: number, end: number][]}  Those in line `n`. */
  parts(n) {
    /** @type {[number, number][]} */
    const found = [];
    for (let i = this.from(n); i < this.count && this.line(i) === n; i++) found.push(this.part(i));
    return found;
  }

  /** @yields {number}  Lines that have any, each once. */
  *lines() {
    for (let i = 0; i < this.count; i++) if (!i || this.line(i) !== this.line(i - 1)) yield this.line(i);
  }
}
