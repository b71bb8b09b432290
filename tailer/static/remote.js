/** Has the server search a log, for what the page does not hold: which lines match, and how far it is. */

import { logUrl, Refused, refusalOf } from "./load.js";
import { Hits } from "./search.js";

/** @typedef {import("./search.js").Wanted} Wanted */
/** @typedef {{cursor: string, line: number | null, bytes: number, of: number, more: boolean}} Progress */

/** People type on; what they had typed before is not worth a search. */
const SOON_MS = 300;
/** No one goes through more of them in one go. */
const MOST_LINES = 20_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;

export class Remote {
  /** @param {import("./log.js").Log} log @param {() => void} onNews  There are other matches, or another state. */
  constructor(log, onNews) {
    this.log = log;
    this.onNews = onNews;
    this.hits = new Hits();
    /** waiting: for another try. @type {"idle" | "running" | "waiting" | "limited" | "done" | "refused"} */
    this.state = "idle";
    /** Why it is refused. */
    this.trouble = "";
    this.attempt = 0;
    /** All lines before this one are searched. */
    this.line = 1;
    /** @type {Wanted | null} */
    this.wanted = null;
    /** Where to go on; "": from the beginning. */
    this.cursor = "";
    this.searched = 0;
    this.size = 0;
    this.retryMs = 0;
    this.timer = 0;
    this.asking = new AbortController();
  }

  /** How much of the log is searched, in percent. */
  get percent() {
    return this.size ? Math.floor((100 * this.searched) / this.size) : 0;
  }

  get busy() {
    return this.state === "running" || this.state === "waiting";
  }

  /** @param {Wanted} wanted  Search all of the shown attempt, soon, instead of anything else. */
  begin(wanted) {
    this.stop();
    this.wanted = { ...wanted };
    this.attempt = this.log.attempt;
    this.state = "running";
    this.timer = setTimeout(() => this.ask(), SOON_MS);
  }

  /** Search on behind what is searched already. */
  goOn() {
    if (this.busy || !this.wanted) return;
    this.state = "running";
    void this.ask();
  }

  /** Search no more, and forget what was found. */
  stop() {
    this.asking.abort();
    clearTimeout(this.timer);
    this.hits.clear();
    Object.assign(this, { state: "idle", wanted: null, cursor: "", line: 1, searched: 0, size: 0, retryMs: 0, trouble: "" });
  }

  async ask() {
    const { signal } = (this.asking = new AbortController());
    const wanted = /** @type {Wanted} */ (this.wanted);
    const query = new URLSearchParams({ format: "ndjson", grep: wanted.query, limit: String(MOST_LINES) });
    if (!wanted.regex) query.set("fixed", "1");
    if (!wanted.matchCase) query.set("ignorecase", "1");
    if (wanted.word) query.set("word", "1");
    if (this.cursor) query.set("offset", this.cursor);
    this.state = "running";
    try {
      const url = logUrl(this.log.base, this.log.job, this.attempt, `&${query}`);
      const headers = { Accept: "application/x-ndjson, application/problem+json" };
      const response = await fetch(url, { signal, headers, cache: "no-store" });
      if (!response.ok) throw await refusalOf(response);
      const last = await this.read(/** @type {ReadableStream<Uint8Array>} */ (response.body));
      this.state = last?.more ? "limited" : "done";
    } catch (error) {
      if (signal.aborted) return;
      const passing = !(error instanceof Refused) || error.status >= 500 || error.status === 429;
      if (passing) this.again();
      else this.refuse(/** @type {Refused} */ (error));
    }
    this.onNews();
  }

  /** @param {ReadableStream<Uint8Array>} stream @returns {Promise<Progress | null>}  What it told last. */
  async read(stream) {
    const reader = stream.getReader();
    const decoder = new TextDecoder();
    const before = this.searched;
    /** @type {Progress | null} */
    let last = null;
    let rest = "";
    let open = true;
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      const lines = (rest + decoder.decode(piece.value, { stream: true })).split("\n");
      rest = /** @type {string} */ (lines.pop());
      for (const line of lines) {
        const { progress, match, line: n } = line ? JSON.parse(line) : {};
        if (progress) this.reached((last = progress), before);
        else if (match?.length) for (const [start, end] of match) this.hits.add(n, start, end);
        open = Boolean(match) || (open && !progress);
      }
      this.retryMs = 0;
      this.onNews();
    }
    // Not every proxy says that it has lost the server.
    if (open || rest) throw new Error("the answer was cut");
    return last;
  }

  /** @param {Progress} progress @param {number} before  How much was searched before this request. */
  reached({ cursor, line, bytes, of }, before) {
    this.cursor = cursor;
    this.line = line ?? this.line;
    this.searched = before + bytes;
    this.size = before + of;
  }

  /** Try again from where it is known to have been, after a while. */
  again() {
    // What was found behind that place will be found again.
    this.hits.cut(this.line);
    this.state = "waiting";
    this.retryMs = Math.min(LAST_RETRY_MS, this.retryMs ? this.retryMs * 2 : FIRST_RETRY_MS);
    this.timer = setTimeout(() => this.ask(), this.retryMs * (0.5 + Math.random() / 2));
  }

  /** @param {Refused} refused */
  refuse({ message }) {
    this.state = "refused";
    this.trouble = message.replace(/^grep=.* cannot be used: /s, "");
  }
}
