/**
 * A terminal of endless height: turns what a job prints into rows of styled text. No DOM.
 *
 * The last LIVE rows can change, older ones are frozen. Where a log has to differ from a screen:
 * - A row begins with a line of output and has its number. So only a line feed makes rows: cursor movement ends at the
 *   lowest row that the cursor has been in, and a vertical tab or form feed there is a blank.
 * - Nobody knows where the job thinks the top of its screen is: CUP moves within the row only.
 * - What is above the cursor is history: ED 1 erases in the cursor's row only; ED 2 and 3 erase that row and those
 *   below. Bars that repaint do so from their topmost row on, so they look as in a terminal, and "clear" eats nothing.
 * - Scroll regions, and insertion and deletion of rows, do nothing. Erased cells have the default style.
 *
 *
 * @typedef {import("./types.js").Row & {mark?: string}} Row  mark: a GitLab section marker that was erased from it.
 * @typedef {import("./pens.js").Pen} Pen
 */

import { cellsOf, ODD, skip } from "./cells.js";
import { intern, PLAIN, PLAIN_PEN, sgr } from "./pens.js";
import { append, Tail } from "./tail.js";

const LIVE = 100;
/** How far to the right the cursor moves without text: each column would cost memory. */
const MAX_COLUMN = 1000;
/** Longer sequences are none: what they have so far is dropped, and text goes on. */
const MAX_ESCAPE = 8;
const MAX_CSI = 256;
const MAX_STRING = 4096;

const CONTROL = /[\x00-\x1f\x7f-\x9f]/g;
/** What ends an OSC and its like: BEL and ST as it should be, the others so that a stray one cannot eat the log. */
const STRING_END = /[\x07\x1b\x9c\n\x18\x1a]/g;
const PARAMS = /^[\d;:]*$/;
const SAFE_LINK = /^(?:https?:\/\/|mailto:)\S+$/i;
const MARK = /^section_(start|end):\d+:[\w.-]+(\[[^\]]*\])?$/;

export class Screen {
  constructor() {
    /** How many of the last rows can still change. */
    this.live = LIVE;
    /** New since `take`, in order. @type {Row[]} */
    this.added = [];
    /** Older than the last `take`, and changed since. @type {Set<Row>} */
    this.touched = new Set();
    /** The live rows, and up to as many frozen ones. @type {Row[]} */
    this.rows = [];
    /** How many rows were there before `rows`. */
    this.gone = 0;
    /** The cursor's row; rows.length: the one that is not there yet. */
    this.y = 0;
    /** The lowest that it has been in. */
    this.bottom = 0;
    /** @type {Row | null} */
    this.row = null;
    /** The cursor's column in cells; -1: it is at the end of the row's text, and nobody has asked where that is. */
    this.x = -1;
    /** Its index into the row's text; -1: `x` tells. Void while the row is open. */
    this.at = -1;
    /** Whether the row's text ends at the cursor, and what comes behind it is in the tail. */
    this.open = true;
    this.tail = new Tail();
    this.pen = PLAIN_PEN;
    /** @type {{y: number, x: number, pen: Pen} | null} */
    this.saved = null;
    /** Unfinished sequences of stdout and of stderr. There is never a line feed in them. */
    this.rest = ["", ""];
    this.line = 1;
    this.time = 0;
    this.err = false;
  }

  /** Start anew. @param {number} line  Number of the line that comes next. */
  reset(line) {
    Object.assign(this, new Screen(), { line });
  }

  /** @returns {{added: Row[], touched: Set<Row>}}  What has changed since the last call. */
  take() {
    const { added, touched } = this;
    this.added = [];
    this.touched = new Set();
    return { added, touched };
  }

  /**
   * @param {string} text  Cut anywhere.
   * @param {number} line  Number of the line in which it begins.
   * @param {number} time  ms since 1970.
   * @param {boolean} err  From stderr.
   */
  write(text, line, time, err) {
    this.line = line;
    this.time = time;
    this.err = err;
    const stream = err ? 1 : 0;
    let all = this.rest[stream] + text;
    const half = (all.charCodeAt(all.length - 1) & 0xfc00) === 0xd800 ? all.slice(-1) : "";
    if (half) all = all.slice(0, -1);
    let i = 0;
    let stop = 0;
    while (i >= 0 && i < all.length) {
      CONTROL.lastIndex = i;
      stop = CONTROL.test(all) ? CONTROL.lastIndex - 1 : all.length;
      if (stop > i) this.print(all.slice(i, stop));
      i = stop < all.length ? this.control(all, stop) : stop;
    }
    this.rest[stream] = (i < 0 ? all.slice(stop) : "") + half;
    this.settle();
  }

  /** @param {string} all @param {number} i @returns {number}  Where to go on; -1: more is needed. */
  control(all, i) {
    const code = all.charCodeAt(i);
    if (code === 0x0a) this.lineFeed();
    else if (code === 0x1b) return this.escape(all, i + 1);
    // No other C1 control counts: text decoded wrongly is full of them, and they would eat much of it.
    else if (code === 0x9b) return this.csi(all, i + 1);
    else if (code === 0x0d) this.toColumn(0);
    else if (code === 0x08) this.toColumn(this.column() - 1);
    else if (code === 0x09) this.tab();
    else if (code === 0x0b || code === 0x0c) {
      if (this.y < this.bottom) this.toRow(this.y + 1);
      else CSI.C(this, 1, "");
    }
    return i + 1;
  }

  /** @param {string} all @param {number} i  Behind the ESC. @returns {number} */
  escape(all, i) {
    const kind = all[i];
    if (kind === "[") return this.csi(all, i + 1);
    if (kind && "]PX^_k".includes(kind)) return this.string(all, i + 1, kind === "]");
    ESCAPES[kind]?.(this);
    const last = i + MAX_ESCAPE;
    while (i < last && all.charCodeAt(i) >> 4 === 2) i++;
    if (i === all.length) return -1;
    return all[i] >= "0" && all[i] <= "~" ? i + 1 : i;
  }

  /** @param {string} all @param {number} start  Behind the introducer. @returns {number} */
  csi(all, start) {
    const last = start + MAX_CSI;
    let i = start;
    while (i < last && all.charCodeAt(i) >= 0x20 && all.charCodeAt(i) < 0x40) i++;
    if (i === all.length) return -1;
    const final = all[i];
    if (final < "@" || final > "~") return i;
    const params = all.slice(start, i);
    if (!PARAMS.test(params)) return i + 1;
    CSI[final]?.(this, Math.max(1, parseInt(params, 10) || 1), params);
    return i + 1;
  }

  /** Pass an OSC or its like. @param {string} all @param {number} start @param {boolean} osc @returns {number} */
  string(all, start, osc) {
    STRING_END.lastIndex = start;
    const last = start + MAX_STRING;
    const stop = Math.min(last, STRING_END.test(all) ? STRING_END.lastIndex - 1 : all.length);
    const end = all[stop];
    if (stop === last) return stop;
    if (end === undefined || (end === "\x1b" && stop + 1 === all.length)) return -1;
    const escaped = end === "\x1b" && all[stop + 1] === "\\";
    if (!escaped && end !== "\x07" && end !== "\x9c") return stop;
    const link = osc && /^8;[^;]*;(.*)$/.exec(all.slice(start, stop));
    if (link) this.pen = intern({ ...this.pen, href: SAFE_LINK.test(link[1]) ? link[1] : "" });
    return stop + (escaped ? 2 : 1);
  }

  /** @returns {Row}  The cursor's, made if it was not there. */
  begin() {
    const last = this.rows.at(-1);
    const n = last ? Math.max(this.line, last.n + 1) : this.line;
    const row = { n, time: this.time, err: this.err, text: "", runs: null };
    this.rows.push(row);
    this.added.push(row);
    this.row = row;
    if (this.rows.length >= 2 * LIVE) {
      this.rows.splice(0, LIVE);
      this.gone += LIVE;
      this.y -= LIVE;
      this.bottom -= LIVE;
    }
    return row;
  }

  /** @param {string} text  Without control characters. */
  print(text) {
    const row = this.row ?? this.begin();
    if (!this.open) this.cut();
    append(row, text, this.pen.style);
    row.err ||= this.err;
    if (this.x >= 0) {
      const cells = cellsOf(text);
      this.x += cells;
      if (this.tail.text) this.tail.drop(cells);
    }
    this.touch(row);
  }

  /** @param {Row} row */
  touch(row) {
    if (!this.added.length || row.n < this.added[0].n) this.touched.add(row);
  }

  /** Open the row at the cursor: fill it up to there, or halve a wide character. */
  cut() {
    const { row, x } = this;
    if (!row) return;
    const plain = !ODD.test(row.text);
    let index = this.at;
    let left = 0;
    if (index < 0) {
      if (plain || !x) index = Math.min(x, row.text.length);
      else ({ index, left } = skip(row.text, 0, x));
      if (plain) left = x - index;
    }
    this.open = true;
    this.tail.cut(row, index, plain);
    if (left > 0) append(row, " ".repeat(left), PLAIN);
    if (left < 0) {
      const whole = new Tail();
      whole.cut(row, skip(row.text, 0, x - 1).index, plain);
      append(row, " ", PLAIN);
      if (this.tail.text) this.tail.blanks = 1;
    }
  }

  /** @returns {boolean}  Whether there is text at the cursor or behind it; the row is open then. */
  ahead() {
    if (!this.row) return false;
    if (!this.open) {
      if (this.at < 0 && this.x >= cellsOf(this.row.text)) return false;
      this.cut();
    }
    return this.tail.text !== "";
  }

  /** Make the row whole again. */
  settle() {
    if (!this.row || !this.tail.text) return;
    this.at = this.row.text.length;
    this.open = false;
    this.tail.join(this.row);
  }

  /** @returns {number} */
  column() {
    if (this.x < 0) this.x = this.row ? cellsOf(this.row.text) : 0;
    return this.x;
  }

  /** @param {number} x */
  toColumn(x) {
    this.settle();
    let limit = MAX_COLUMN;
    if (x > limit && this.row) limit = Math.max(limit, cellsOf(this.row.text));
    this.x = Math.max(0, Math.min(x, limit));
    this.at = this.x ? -1 : 0;
    this.open = false;
  }

  /** @param {number} y */
  toRow(y) {
    const x = this.column();
    this.settle();
    this.y = Math.min(Math.max(y, this.rows.length - LIVE, 0), this.bottom);
    this.row = this.rows[this.y] ?? null;
    this.toColumn(x);
  }

  lineFeed() {
    if (this.row) this.settle();
    else this.begin();
    this.line += 1;
    this.y += 1;
    this.bottom = Math.max(this.bottom, this.y);
    this.row = this.rows[this.y] ?? null;
    this.open = !this.row;
    this.x = this.row ? 0 : -1;
    this.at = 0;
  }

  tab() {
    const x = this.column();
    const cells = 8 - (x % 8);
    const { row, pen } = this;
    this.settle();
    if (!this.open && row && x < cellsOf(row.text)) return this.toColumn(x + cells);
    // What a tab passes over has no look of its own.
    this.pen = PLAIN_PEN;
    this.print(" ".repeat(cells));
    this.pen = pen;
  }

  save() {
    this.saved = { y: this.gone + this.y, x: this.column(), pen: this.pen };
  }

  restore() {
    const { saved } = this;
    if (!saved) return;
    this.toRow(saved.y - this.gone);
    this.toColumn(saved.x);
    this.pen = saved.pen;
  }

  /** @param {string} params  1: the row up to the cursor, 2: all of it, else from the cursor on. */
  eraseLine(params) {
    const { row } = this;
    if (!row) return;
    const all = params === "2";
    const before = params === "1";
    const x = all || before ? this.column() : 0;
    if (before) this.toColumn(x + 1);
    if (before && this.ahead()) {
      row.text = " ".repeat(x + 1);
      row.runs = null;
      this.touch(row);
    } else {
      if (all || before) this.toColumn(0);
      if (this.ahead()) this.eraseTail(row);
    }
    if (all || before) this.toColumn(x);
  }

  /** @param {Row} row */
  eraseTail(row) {
    if (!row.text) {
      const text = this.tail.text.slice(this.tail.from);
      if (MARK.test(text)) row.mark = text;
      row.err = false;
    }
    this.tail.text = "";
    this.touch(row);
  }

  /** @param {string} params  As for eraseLine. */
  eraseDisplay(params) {
    this.eraseLine(params === "3" ? "2" : params);
    if (params === "1") return;
    for (const row of this.rows.slice(this.y + 1)) {
      if (!row.text) continue;
      Object.assign(row, { text: "", runs: null, err: false });
      this.touch(row);
    }
  }

  /** @param {number} cells  Erased, deleted or inserted behind the cursor. @param {"X" | "P" | "@"} how */
  edit(cells, how) {
    if (!this.row || !this.ahead()) return;
    const { tail } = this;
    if (how !== "@") tail.drop(cells);
    const room = how === "X" ? cells : MAX_COLUMN - this.x - tail.blanks - tail.text.length + tail.from;
    if (how !== "P" && tail.text) tail.blanks += Math.max(0, Math.min(cells, room));
    this.touch(this.row);
  }
}

/** @type {Record<string, (screen: Screen) => void>} */
const ESCAPES = {
  7: (screen) => screen.save(),
  8: (screen) => screen.restore(),
  D: (screen) => screen.toRow(screen.y + 1),
  E: (screen) => CSI.E(screen, 1, ""),
  M: (screen) => screen.toRow(screen.y - 1),
  c: (screen) => CSI.m(screen, 0, ""),
};

/** @type {Record<string, (screen: Screen, n: number, params: string) => void>} */
const CSI = {
  m: (screen, _, params) => (screen.pen = sgr(screen.pen, params)),
  A: (screen, n) => screen.toRow(screen.y - n),
  B: (screen, n) => screen.toRow(screen.y + n),
  C: (screen, n) => screen.toColumn(screen.column() + n),
  D: (screen, n) => screen.toColumn(screen.column() - n),
  E: (screen, n) => (screen.toRow(screen.y + n), screen.toColumn(0)),
  F: (screen, n) => (screen.toRow(screen.y - n), screen.toColumn(0)),
  G: (screen, n) => screen.toColumn(n - 1),
  H: (screen, _, params) => screen.toColumn((parseInt(params.split(";")[1], 10) || 1) - 1),
  J: (screen, _, params) => screen.eraseDisplay(params),
  K: (screen, _, params) => screen.eraseLine(params),
  X: (screen, n) => screen.edit(n, "X"),
  P: (screen, n) => screen.edit(n, "P"),
  "@": (screen, n) => screen.edit(n, "@"),
  s: (screen) => screen.save(),
  u: (screen) => screen.restore(),
};
Object.assign(CSI, { "`": CSI.G, a: CSI.C, e: CSI.B, f: CSI.H });
