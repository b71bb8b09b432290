/**
 * The lines of one attempt that the page holds: a window of the log, in blocks of rows, and what they mean.
 *
 * No DOM. Whoever shows it calls `drain` for what has changed since.
 */

import { Screen } from "./ansi.js";
import { ERROR, GROUP_END, GROUP_START, HOLE, REPEATED, SIFTED, TRACEBACK, TRACEBACK_START, WARNING } from "./flags.js";
import { Decoding, Reading } from "./reading.js";

/** Rows of a block: what is put into the page, and taken out of it, at once. */
export const BLOCK = 256;
/** Most rows and characters held: some 150 MB in Chromium, together with what is shown of them. */
export const MAX_ROWS = 200_000;
export const MAX_CHARS = 32_000_000;

/**
 * @typedef {import("./types.js").Row & {flags?: number, group?: number, mark?: string,
 *   tag?: import("./types.js").Tag}} Line
 *
 * @typedef {object} Block
 * @property {Line[]} rows
 *
 * @typedef {object} Group  Lines between two marks.
 * @property {number} id
 * @property {number} parent  0: none.
 * @property {string} title
 * @property {boolean} collapsed
 * @property {boolean} failed  An error is in it.
 * @property {number} started  ms since 1970.
 * @property {number} ended  0: still open.
 *
 * @typedef {object} LogRecord  A chunk of the log, as the server sends it.
 * @property {string} cursor
 * @property {string} time
 * @property {string} [stream]
 * @property {number} line
 * @property {number} lines
 * @property {string} [text]
 * @property {string} [base64]
 * @property {number} [missing]
 * @property {string} [cause]
 *
 * @typedef {object} Changes
 * @property {boolean} reset  Everything before is void.
 * @property {Block[]} before  New ones above all others.
 * @property {Block[]} after  New ones below all others.
 * @property {Set<Block>} grown  Blocks that have more rows.
 * @property {Set<Line>} touched  Rows that look different.
 * @property {Block[]} dropped
 */

/** @returns {Changes} */
const nothing = () => ({
  reset: false,
  before: [],
  after: [],
  grown: new Set(),
  touched: new Set(),
  dropped: [],
});
export class Store {
  /**
   * @param {number} [line]  Number of the line that comes first.
   * @param {string | null} [cursor]  Where that is; null: not known.
   */
  constructor(line = 1, cursor = null) {
    /** @type {Block[]} */
    this.blocks = [];
    this.rows = 0;
    this.chars = 0;
    /** Number of the first line that is here, or of the one that would be. */
    this.firstLine = line;
    this.nextLine = line;
    this.cursor = cursor;
    this.midline = false;
    /** Another number whenever there are other rows than were, but for new ones below, and old ones let go of. */
    this.era = 0;
    /** @type {Map<number, Group>} */
    this.groups = new Map();
    /** How often a row is there that others repeat. @type {Map<Line, number>} */
    this.repeats = new Map();
    this.foldRepeats = true;
    /** Numbers of lines with errors, ascending. @type {number[]} */
    this.errors = [];
    this.sifting = false;
    this.context = 0;
    /** How many rows a filter has let through. */
    this.shown = 0;
    this.shownBelow = 0;
    /** The newest rows that the filter has left out. @type {Line[]} */
    this.siftedAbove = [];
    this.changes = nothing();
    this.screen = new Screen();
    this.decoding = new Decoding();
    this.reading = new Reading(this);
    /** Rows that may still get more text. @type {Line[]} */
    this.unread = [];
  }

  /**
   * Begin anew.
   *
   * @param {number} line @param {string | null} cursor
   */
  reset(line, cursor) {
    const { sifting, context, foldRepeats, era } = this;
    Object.assign(this, new Store(line, cursor), { sifting, context, foldRepeats, era: era + 1 });
    this.reading = new Reading(this);
    this.changes.reset = true;
  }

  /** How many lines there are up to here, the last one perhaps unfinished. */
  get lastLine() {
    return this.nextLine - (this.midline ? 0 : 1);
  }

  /** @param {LogRecord} record  The next one. */
  append(record) {
    this.cursor = record.cursor;
    if (record.missing !== undefined) this.hole(record);
    else {
      const text = this.decoding.text(record);
      this.screen.write(text, record.line, Date.parse(record.time), record.stream === "stderr");
      this.midline = text ? !text.endsWith("\n") : this.midline;
    }
    this.nextLine = record.line + record.lines;
    this.collect();
  }

  /** @param {LogRecord} record */
  hole(record) {
    this.collect();
    this.readUp(0);
    const text = `${record.missing} bytes are missing here: ${record.cause}`;
    this.place({ n: record.line, time: Date.parse(record.time), err: false, text, runs: null, flags: HOLE | (this.sifting ? SIFTED : 0) });
    this.screen = new Screen();
    this.midline = false;
  }

  collect() {
    const { added, touched } = this.screen.take();
    for (const row of touched) this.changes.touched.add(row);
    for (const row of added) {
      this.place(row);
      this.unread.push(row);
    }
    this.readUp(this.midline ? 1 : 0);
    this.trim();
  }

  /** The log is over: the last row means something now, too. */
  finish() {
    this.readUp(0);
  }

  /** @param {number} keep  How many of the newest rows may still get more text. */
  readUp(keep) {
    const ready = this.unread.splice(0, Math.max(0, this.unread.length - keep));
    for (const row of ready) {
      this.chars += row.text.length;
      this.reading.take(row);
      if (this.sifting) row.flags = (row.flags ?? 0) | SIFTED;
      if (row.flags) this.changes.touched.add(row);
    }
  }

  /**
   * Show only rows that `sift` is told of from now on, or all again.
   *
   * @param {boolean} sifting
   * @param {number} context  How many rows around each of them.
   */
  sieve(sifting, context) {
    this.sifting = sifting;
    this.context = context;
    this.shownBelow = 0;
    this.siftedAbove = [];
    this.shown = 0;
    for (const { rows } of this.blocks) {
      for (const row of rows) row.flags = sifting ? (row.flags ?? 0) | SIFTED : (row.flags ?? 0) & ~SIFTED;
    }
  }

  /** @param {Line} row  The next one, from above. @param {boolean} wanted */
  sift(row, wanted) {
    if (wanted) {
      for (const above of this.siftedAbove) this.unhide(above);
      this.siftedAbove = [];
      this.shownBelow = this.context;
      this.unhide(row);
    } else if (this.shownBelow > 0) {
      this.shownBelow -= 1;
      this.unhide(row);
    } else {
      this.siftedAbove.push(row);
      if (this.siftedAbove.length > this.context) this.siftedAbove.shift();
    }
  }

  /** @param {Line} row */
  unhide(row) {
    if (row.n < this.firstLine) return;
    row.flags = (row.flags ?? 0) & ~SIFTED;
    this.shown += 1;
    this.changes.touched.add(row);
  }

  /** @param {Line} row @param {string} level  "error", "warning" or "". */
  isLevel(row, level) {
    const wanted = level === "error" ? ERROR | TRACEBACK : level === "warning" ? ERROR | TRACEBACK | WARNING : ~0;
    return level === "" || Boolean((row.flags ?? 0) & wanted);
  }

  /** @param {Line} row @returns {boolean}  Whether it is to be seen. */
  shows(row) {
    const flags = row.flags ?? 0;
    if (flags & (SIFTED | GROUP_END) || (flags & REPEATED && this.foldRepeats)) return false;
    const inner = this.groups.get(row.group ?? 0);
    // The row that begins a group belongs to it, and stays to be seen when the group is folded.
    let group = flags & GROUP_START && inner ? this.groups.get(inner.parent) : inner;
    for (; group; group = this.groups.get(group.parent)) if (group.collapsed) return false;
    return true;
  }

  /** @param {Line} row */
  place(row) {
    let block = this.blocks.at(-1);
    if (!block || block.rows.length >= BLOCK) {
      block = { rows: [] };
      this.blocks.push(block);
      this.changes.after.push(block);
    } else this.changes.grown.add(block);
    block.rows.push(row);
    this.rows += 1;
  }

  /** @param {Line} row */
  failed(row) {
    this.errors.push(row.n);
    for (let group = this.groups.get(row.group ?? 0); group; group = this.groups.get(group.parent)) group.failed = true;
  }

  /**
   * Put lines above all others.
   *
   * @param {LogRecord[]} records  Whole lines, the last of them just before `firstLine`.
   */
  prepend(records) {
    if (!records.length) return;
    const piece = new Store();
    for (const record of records) piece.append(record);
    piece.finish();
    this.era += 1;
    this.firstLine = records[0].line;
    this.rows += piece.rows;
    this.chars += piece.chars;
    this.errors = piece.errors.concat(this.errors);
    for (const [row, count] of piece.repeats) this.repeats.set(row, count);
    const shift = this.groups.size;
    for (const group of piece.groups.values()) {
      const id = group.id + shift;
      this.groups.set(id, { ...group, id, parent: group.parent && group.parent + shift });
    }
    for (const { rows } of piece.blocks) for (const row of rows) if (row.group) row.group += shift;
    this.blocks.unshift(...piece.blocks);
    this.changes.before.unshift(...piece.blocks);
  }

  /** Let go of the oldest rows. */
  trim() {
    while (this.blocks.length > 1 && (this.rows > MAX_ROWS || this.chars > MAX_CHARS)) {
      const [block] = this.blocks.splice(0, 1);
      this.forget(block);
      this.rows -= block.rows.length;
      for (const row of block.rows) {
        this.chars -= row.text.length;
        this.repeats.delete(row);
        if (this.sifting && !((row.flags ?? 0) & SIFTED)) this.shown -= 1;
      }
      this.firstLine = this.blocks[0].rows[0].n;
    }
    let gone = 0;
    while (this.errors[gone] < this.firstLine) gone++;
    this.errors.splice(0, gone);
  }

  /**
   * Nobody is to be told of it any more but that it is gone, and not even that if nobody knows it yet: a tab that is
   * hidden takes no changes for hours, and must not hold all of them.
   *
   * @param {Block} block  One that was the first or the last.
   */
  forget(block) {
    const { before, after, grown, touched, dropped } = this.changes;
    const fresh = [before, after].find((list) => list[0] === block || list.at(-1) === block);
    if (fresh) fresh.splice(fresh.indexOf(block), 1);
    else dropped.push(block);
    grown.delete(block);
    for (const row of block.rows) touched.delete(row);
  }

  /** Let go of the newest rows, so that others find room above. */
  cut() {
    this.readUp(0);
    while (this.blocks.length > 1 && (this.rows > MAX_ROWS || this.chars > MAX_CHARS)) {
      const block = /** @type {Block} */ (this.blocks.pop());
      this.forget(block);
      this.rows -= block.rows.length;
      for (const row of block.rows) this.chars -= row.text.length;
      this.nextLine = block.rows[0].n;
      this.midline = false;
      this.cursor = null;
    }
    if (this.cursor !== null) return;
    while (/** @type {number} */ (this.errors.at(-1)) >= this.nextLine) this.errors.pop();
    this.screen = new Screen();
    this.decoding = new Decoding();
    this.reading = new Reading(this);
  }

  /** @returns {Changes}  What has changed since the last call. */
  drain() {
    const changes = this.changes;
    this.changes = nothing();
    return changes;
  }

  /**
   * @param {number} line
   * @returns {{block: Block, index: number} | null}  The row that holds it, or the one before, if it is here.
   */
  find(line) {
    let low = 0;
    let high = this.blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.blocks[middle].rows[0].n <= line) low = middle;
      else high = middle - 1;
    }
    const block = this.blocks[low];
    if (!block) return null;
    let index = block.rows.findIndex((row) => row.n > line) - 1;
    if (index === -2) index = block.rows.length - 1;
    return { block, index: Math.max(0, index) };
  }

  /** @returns {number | null}  The line with which the last traceback begins. */
  lastTraceback() {
    for (let i = this.blocks.length - 1; i >= 0; i--) {
      for (const row of [...this.blocks[i].rows].reverse()) if ((row.flags ?? 0) & TRACEBACK_START) return row.n;
    }
    return null;
  }

  /** @param {number} from @param {number} to @yields {Line} */
  *between(from, to) {
    const start = this.find(from);
    if (!start) return;
    for (let i = this.blocks.indexOf(start.block); i < this.blocks.length; i++) {
      for (const row of this.blocks[i].rows) {
        if (row.n > to) return;
        if (row.n >= from) yield row;
      }
    }
  }
}
