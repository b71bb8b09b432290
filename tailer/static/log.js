/**
 * A job's log as a pane holds it: which attempt, which part of it, and whether it grows with the job.
 *
 * A window of the log is in the store. As long as that reaches to the newest line it is `attached`, and takes what the
 * stream brings; else the stream is only counted, until the reader has come to the end.
 */

import { jobInfo, part, piece, Refused } from "./load.js";
import { Store } from "./store.js";
import { streamOf } from "./stream.js";

const MORE_LINES = 5000;
/** A line that is so near is reached by loading all up to it. */
const NEARBY = 20_000;
const BAD = new Set(["failed", "killed", "timeout", "lost"]);
const WAITING = new Set(["created", "queued", "scheduled", "deferred", "rate_limited", "ready_to_enqueue"]);

/**
 * @typedef {import("./load.js").JobInfo} JobInfo
 * @typedef {import("./load.js").EndRecord} EndRecord
 * @typedef {import("./load.js").Piece} Piece
 * @typedef {import("./store.js").LogRecord} LogRecord
 */

export class Log {
  /**
   * @param {string} base  Tailer's root, with a slash at the end.
   * @param {string} job
   * @param {() => void} onChange  Something other than the rows has changed.
   * @param {() => void} onRows  There are other rows to show.
   */
  constructor(base, job, onChange, onRows) {
    this.base = base;
    this.job = job;
    this.onChange = onChange;
    this.onRows = onRows;
    this.store = new Store();
    this.stream = streamOf(base);
    /** @type {"loading" | "ready" | "refused"} */
    this.state = "loading";
    /** @type {Refused | null} */
    this.problem = null;
    /** @type {JobInfo | null} */
    this.info = null;
    this.attempt = 1;
    this.attached = true;
    this.loading = false;
    /** Where the stream is, and the number of the line that comes next there. */
    this.edge = "1:0";
    this.edgeLine = 1;
    this.over = false;
    /** @type {EndRecord | null} */
    this.finalEnd = null;
    this.closed = false;
    /** Counts what the window was wanted to be: what was asked for before the last time comes too late. */
    this.turn = 0;
    this.heardAt = performance.now();
    /** Lines of each of the last seconds, the newest last. @type {number[]} */
    this.rates = [0];
    this.rateAt = 0;
    this.refreshing = 0;
    this.patience = 500;
    this.follower = {
      job,
      cursor: () => (this.state === "ready" && !this.over ? this.edge : null),
      take: (/** @type {import("./sse.js").ServerEvent} */ event) => this.take(event),
    };
  }

  close() {
    this.closed = true;
    this.onChange = this.onRows = () => {};
    clearTimeout(this.refreshing);
    this.stream.remove(this.follower);
  }

  /**
   * Begin to load what is to be shown instead of all that is here, or is being loaded.
   *
   * @returns {() => boolean}  Whether that is still wanted.
   */
  begin() {
    const turn = ++this.turn;
    if (this.state === "ready") this.problem = null;
    return () => turn === this.turn && !this.closed;
  }

  /**
   * Load what is to be seen first, and follow from there.
   *
   * @param {{attempt?: number | null, line?: number | null}} where
   * @returns {Promise<boolean>}  Whether it is here now: it may be refused, or something else be wanted by then.
   */
  async open({ attempt = null, line = null } = {}) {
    const wanted = this.begin();
    while (wanted()) {
      try {
        const info = await jobInfo(this.base, this.job);
        if (!wanted()) break;
        this.info = info;
        return await this.openAttempt(attempt ?? this.newest, line, wanted);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (!wanted()) break;
        if (error.status > 0 && error.status < 500) {
          this.refuse(error);
          break;
        }
        this.problem = error;
        this.onChange();
        await new Promise((resolve) => setTimeout(resolve, this.patience));
        this.patience = Math.min(15_000, this.patience * 2);
      }
    }
    return false;
  }

  /** @param {Refused} error */
  refuse(error) {
    this.state = "refused";
    this.problem = error;
    this.onChange();
  }

  get newest() {
    return this.info?.attempts.at(-1)?.attempt ?? 1;
  }

  /** How the shown attempt ended; null: it has not. */
  get end() {
    return this.info?.attempts.find(({ attempt }) => attempt === this.attempt)?.end ?? this.lastEnd();
  }

  lastEnd() {
    return this.over && this.attempt >= this.newest ? this.finalEnd : null;
  }

  get waiting() {
    return WAITING.has(this.info?.status ?? "");
  }

  get failed() {
    return BAD.has(this.end?.outcome ?? "");
  }

  /**
   * Nothing changes before it is loaded, nor if that fails.
   *
   * @param {number} attempt @param {number | null} line  What is to be around it; null: the end.
   * @param {() => boolean} [wanted]
   * @returns {Promise<boolean>}  Whether it is here now: something else may be wanted by then.
   */
  async openAttempt(attempt, line, wanted = this.begin()) {
    const known = this.info?.attempts.some((one) => one.attempt === attempt);
    const loaded = known && (await piece(this.base, this.job, attempt, line));
    if (!wanted()) return false;
    this.attempt = attempt;
    const last = this.info?.attempts.at(-1);
    this.over = this.isOver(last?.end ?? null);
    // What is known of the job may be older than what the stream has told.
    const [streamed, offset] = this.edge.split(":").map(Number);
    if (streamed < this.newest || (streamed === this.newest && offset < (last?.bytes ?? 0))) {
      this.edge = `${this.newest}:${last?.bytes ?? 0}`;
      this.edgeLine = (last?.lines ?? 0) + 1;
    }
    this.put(loaded || { records: [], start: `${attempt}:0`, first: 1, to: Infinity });
    this.state = "ready";
    this.problem = null;
    this.stream.add(this.follower);
    this.onRows();
    this.onChange();
    return true;
  }

  /** @param {EndRecord | null} end */
  isOver(end) {
    if (this.waiting) return false;
    if (end?.final) this.finalEnd = end;
    return Boolean(end?.final);
  }

  // The window.

  /** @param {Piece} loaded  Of the shown attempt: the window from now on. */
  put({ records, start, first, to }) {
    this.store.reset(first, start);
    for (const record of records) this.store.append(record);
    if (this.end) this.store.finish();
    this.attach(to);
  }

  /**
   * See whether the window reaches to the end: less came than was asked for, or it is known that there is no more. The
   * stream may be further on by now, and goes back then.
   *
   * @param {number} to  The last line that was asked for.
   */
  attach(to) {
    this.attached = this.attempt === this.newest && (this.store.nextLine <= to || this.complete);
    if (!this.attached) return;
    this.edge = /** @type {string} */ (this.store.cursor);
    this.edgeLine = this.store.nextLine;
    if (this.state === "ready" && !this.over) this.stream.restart();
  }

  /** Whether all is here that is known to be below the first line, also of a line that is not finished. */
  get complete() {
    const known = this.info?.attempts.find(({ attempt }) => attempt === this.attempt);
    const here = Number(this.store.cursor?.split(":")[1] ?? -1);
    const there = this.attempt === this.newest ? Number(this.edge.split(":")[1]) : 0;
    return here >= Math.max(known?.bytes ?? 0, there);
  }

  /** Whether there is output below the last line that is here. */
  get hasMoreBelow() {
    return !this.attached && !this.complete;
  }

  /** How many lines the shown attempt has, as far as that is known. */
  get total() {
    const known = this.info?.attempts.find(({ attempt }) => attempt === this.attempt);
    const edge = this.attempt === this.newest ? this.edgeLine - 1 : 0;
    return Math.max(known?.lines ?? 0, edge, this.store.lastLine);
  }

  /** @param {number} line  Load all from there on that is missing above. */
  async above(line) {
    const { store } = this;
    const { firstLine: before, era } = store;
    const { records } = await part(this.base, this.job, this.attempt, `lines=${line}-${before - 1}`);
    if (era !== store.era || before !== store.firstLine) return;
    store.prepend(records);
    store.cut();
    this.attached &&= store.cursor !== null;
  }

  /** Load some lines more below. */
  async below() {
    const { store } = this;
    const { nextLine: from, era } = store;
    const to = from + MORE_LINES - 1;
    const { records } = await part(this.base, this.job, this.attempt, `lines=${from}-${to}`);
    if (era !== store.era || from !== store.nextLine) return;
    for (const record of records) store.append(record);
    this.attach(to);
  }

  /** @param {"top" | "bottom"} edge  Load more there. */
  async more(edge) {
    if (this.loading || this.state !== "ready") return;
    const top = edge === "top";
    if (top ? this.store.firstLine <= 1 : !this.hasMoreBelow) return;
    this.loading = true;
    this.onChange();
    try {
      if (top) await this.above(Math.max(1, this.store.firstLine - MORE_LINES));
      else await this.below();
      this.onRows();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    } finally {
      this.loading = false;
      this.onChange();
    }
  }

  /** @param {number} line */
  has(line) {
    return line >= this.store.firstLine && line <= this.store.lastLine;
  }

  /** @param {number} line  @returns {Promise<boolean>}  Whether it is here now: something else may be wanted by then. */
  async reach(line) {
    if (this.has(line)) return true;
    if (line > this.total) return false;
    const { attempt } = this;
    const { firstLine } = this.store;
    const last = this.begin();
    const wanted = () => last() && attempt === this.attempt;
    if (line < firstLine && firstLine - line <= NEARBY) await this.above(line);
    // What was loaded above may have come too late, behind another part.
    if (wanted() && !this.has(line)) {
      const loaded = await piece(this.base, this.job, attempt, line);
      if (wanted()) this.put(loaded);
    }
    this.onRows();
    this.onChange();
    return wanted() && this.has(line);
  }

  /** Go back to the newest lines. @returns {Promise<boolean>}  Whether they are here now. */
  async toEnd() {
    if (this.attached || this.state !== "ready") return true;
    return this.openAttempt(this.attempt, null);
  }

  // What the stream tells.

  /** @param {import("./sse.js").ServerEvent} event */
  take(event) {
    const data = JSON.parse(event.data);
    this.heardAt = event.name === "message" ? performance.now() : this.heardAt;
    switch (event.name) {
      case "message":
      case "hole":
        return this.output(data);
      case "attempt":
        return this.begun(data);
      case "status":
        if (this.info) Object.assign(this.info, data);
        this.refresh();
        return this.onChange();
      case "end":
        this.over = true;
        this.finalEnd = data;
        if (this.info) Object.assign(this.info, { status: data.status, outcome: data.outcome });
        for (const one of this.info?.attempts ?? []) if (one.attempt === data.attempt) one.end = data;
        this.store.finish();
        this.onRows();
        this.refresh();
        return this.onChange();
      case "error":
        return this.refuse(new Refused(data.status, data.detail, data.login));
      default:
    }
  }

  /** @param {JobInfo} info  What is said of the job: if it was over, perhaps that it is to run again, or has run. */
  learn(info) {
    const newest = info.attempts.at(-1)?.attempt ?? 0;
    const again = WAITING.has(info.status ?? "") || newest > Number(this.edge.split(":")[0]);
    if (!this.over || !this.info || !again) return;
    Object.assign(this.info, { status: info.status, position: info.position, outcome: null });
    this.over = false;
    this.stream.restart();
    this.onChange();
  }

  /** @param {LogRecord} record */
  output(record) {
    const attempt = Number(record.cursor.split(":")[0]);
    this.edge = record.cursor;
    this.count(record.line + record.lines - this.edgeLine);
    this.edgeLine = record.line + record.lines;
    if (attempt === this.attempt && this.attached) this.store.append(record);
    this.onRows();
  }

  /** @param {number} lines */
  count(lines) {
    const second = Math.floor(performance.now() / 1000);
    const gone = Math.min(60, second - this.rateAt);
    for (let i = 0; i < gone; i++) this.rates.push(0);
    if (this.rates.length > 60) this.rates.splice(0, this.rates.length - 60);
    this.rateAt = second;
    this.rates[this.rates.length - 1] += Math.max(0, lines);
  }

  /** @param {{attempt: number, time: number, worker: string}} told */
  begun({ attempt, time, worker }) {
    const attempts = this.info?.attempts ?? [];
    if (!attempts.some((one) => one.attempt === attempt)) {
      const started = new Date(time).toISOString();
      attempts.push({ attempt, started_at: started, worker, bytes: 0, lines: 0, end: null });
    }
    // What is known of it does not tell where the stream is: `refresh` may have heard of this attempt before.
    if (attempt > Number(this.edge.split(":")[0])) {
      this.edge = `${attempt}:0`;
      this.edgeLine = 1;
      if (this.attached || !this.store.rows) {
        this.attempt = attempt;
        this.attached = true;
        this.store.reset(1, this.edge);
      }
    }
    this.refresh();
    this.onRows();
    this.onChange();
  }

  /** Ask for what the stream does not tell, soon. */
  refresh() {
    clearTimeout(this.refreshing);
    const asked = setTimeout(async () => {
      try {
        const info = await jobInfo(this.base, this.job);
        // An answer that has been long on its way must not undo what came, or is to be asked for, since.
        if (this.closed || this.refreshing !== asked) return;
        this.info = info;
        this.learn(info);
        this.onChange();
      } catch {
        // It stays as it was; the next change asks again.
      }
    }, 250);
    this.refreshing = asked;
  }
}
