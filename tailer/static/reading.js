/** Makes text of records, and meaning of rows. No DOM. */

import { DEBUG, ERROR, FOREIGN, GROUP_END, GROUP_START, INFO, REPEATED, TRACEBACK, TRACEBACK_END, TRACEBACK_START, WARNING } from "./flags.js";
import { groupMark, level, Tracebacks } from "./marks.js";

/**
 * @typedef {import("./store.js").Group} Group
 * @typedef {import("./store.js").Line} Line
 * @typedef {import("./store.js").LogRecord} LogRecord
 * @typedef {import("./store.js").Store} Store
 */

const LEVELS = /** @type {const} */ ({ error: ERROR, warning: WARNING, info: INFO, debug: DEBUG, "": 0 });

/** Text of records: UTF-8 whose characters may be cut between two records of a stream. */
export class Decoding {
  constructor() {
    /** @type {Map<string, TextDecoder>} */
    this.pending = new Map();
  }

  /** @param {LogRecord} record @returns {string} */
  text(record) {
    const stream = record.stream ?? "";
    const decoder = this.pending.get(stream);
    if (record.text !== undefined) {
      if (!decoder) return record.text;
      this.pending.delete(stream);
      return decoder.decode() + record.text;
    }
    const binary = atob(record.base64 ?? "");
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    const other = decoder ?? new TextDecoder("utf-8", { ignoreBOM: true });
    this.pending.set(stream, other);
    return other.decode(bytes, { stream: true });
  }
}

/** Tells of rows, one after the other, what they mean. */
export class Reading {
  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    this.tracebacks = new Tracebacks();
    /** @type {number[]} */
    this.open = [];
    /** @type {Line[]} */
    this.same = [];
  }

  /** @param {Line} row */
  take(row) {
    row.flags = this.flagsOf(row);
    this.group(row);
    this.repeat(row);
    if (row.flags & ERROR) this.store.failed(row);
  }

  /** @param {Line} row @returns {number}  What its text alone, behind that of the rows before it, says. */
  flagsOf(row) {
    const traceback = this.tracebacks.next(row.text);
    let flags = traceback.inside ? TRACEBACK | (traceback.dim ? FOREIGN : 0) : LEVELS[level(row.text)];
    if (traceback.first) flags |= TRACEBACK_START;
    if (traceback.last) flags |= TRACEBACK_END | ERROR;
    return flags;
  }

  /** @param {Line} row */
  group(row) {
    const mark = groupMark(row.mark ?? row.text);
    const { groups } = this.store;
    if (mark?.kind === "start") {
      const id = groups.size + 1;
      const parent = this.open.at(-1) ?? 0;
      const title = row.mark ? row.text : mark.title;
      groups.set(id, { id, parent, title, collapsed: mark.collapsed, failed: false, started: row.time, ended: 0 });
      this.open.push(id);
      row.flags = GROUP_START;
    } else if (mark?.kind === "end" && this.open.length) {
      row.flags = GROUP_END;
      row.group = this.open.pop();
      /** @type {Group} */ (groups.get(row.group ?? 0)).ended = row.time;
      return;
    }
    if (this.open.length) row.group = this.open.at(-1);
  }

  /** @param {Line} row */
  repeat(row) {
    const first = this.same[0];
    if (first === undefined || first.text !== row.text || row.text === "" || row.flags !== first.flags) {
      this.same = [row];
      return;
    }
    const { repeats, changes } = this.store;
    if (this.same.length < 3) this.same.push(row);
    const count = (repeats.get(first) ?? this.same.length - 1) + 1;
    if (count < 3) return;
    repeats.set(first, count);
    changes.touched.add(first);
    for (const again of count === 3 ? this.same.slice(1) : [row]) {
      again.flags = (again.flags ?? 0) | REPEATED;
      changes.touched.add(again);
    }
  }
}
