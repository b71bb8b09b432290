/**
 * Rows of styled text that grow, and that are overwritten.
 *
 * @typedef {import("./types.js").Row} Row
 * @typedef {import("./types.js").Run} Run
 * @typedef {import("./types.js").Style} Style
 */

import { skip } from "./cells.js";
import { PLAIN } from "./pens.js";

/** @param {Row} row @param {number} before  Length of its text so far. @param {number} length @param {Style} style */
function addRun(row, before, length, style) {
  if (row.runs === null) {
    if (style === PLAIN) return;
    row.runs = before ? [{ length: before, style: PLAIN }] : [];
  }
  const last = row.runs.at(-1);
  if (last?.style === style) last.length += length;
  else row.runs.push({ length, style });
}

/** @param {Row} row @param {string} text @param {Style} style */
export function append(row, text, style) {
  if (row.runs !== null || style !== PLAIN) addRun(row, row.text.length, text.length, style);
  row.text += text;
}

/**
 * What is to the right of the cursor while its row is being overwritten: the row holds the rest, so that each piece of
 * a repaint only costs its own length.
 */
export class Tail {
  constructor() {
    this.text = "";
    this.from = 0;
    /** Blank cells before the text. */
    this.blanks = 0;
    this.plain = true;
    /** @type {Run[]} */
    this.runs = [];
    this.run = 0;
    this.gone = 0;
  }

  /** @param {Row} row  Loses its text from an index on. @param {number} from @param {boolean} plain  Not odd. */
  cut(row, from, plain) {
    Object.assign(this, { text: from < row.text.length ? row.text : "", from: 0, blanks: 0, plain, run: 0, gone: 0 });
    this.runs = row.runs ?? [{ length: row.text.length, style: PLAIN }];
    const { text, runs } = row;
    row.text = text.slice(0, from);
    row.runs = null;
    let length = 0;
    for (let i = 0; length < from && runs; length += runs[i++].length) {
      addRun(row, length, Math.min(runs[i].length, from - length), runs[i].style);
    }
    if (this.text) this.pass(from);
  }

  /** @param {number} units  Of the text, but not all that there are. */
  pass(units) {
    this.from += units;
    this.gone += units;
    while (this.gone >= this.runs[this.run].length) this.gone -= this.runs[this.run++].length;
  }

  /** @param {number} cells  With their marks; 0: marks that belong to no cell, else a bar could heap them up. */
  drop(cells) {
    const blanks = Math.min(cells, this.blanks);
    this.blanks -= blanks;
    if (blanks && cells === blanks) return;
    const { index, left } = this.plain
      ? { index: this.from + cells - blanks, left: 0 }
      : skip(this.text, this.from, cells - blanks);
    if (index >= this.text.length) this.text = "";
    else {
      this.pass(index - this.from);
      // Half of a wide character.
      if (left < 0) this.blanks = -left;
    }
  }

  /** @param {Row} row  Gets it back. */
  join(row) {
    if (this.blanks) append(row, " ".repeat(this.blanks), PLAIN);
    for (let at = row.text.length; this.run < this.runs.length; this.run++) {
      const { length, style } = this.runs[this.run];
      addRun(row, at, length - this.gone, style);
      at += length - this.gone;
      this.gone = 0;
    }
    row.text += this.text.slice(this.from);
    this.text = "";
  }
}
