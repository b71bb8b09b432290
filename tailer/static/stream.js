/**
 * The one connection of a page: a stream of all its logs, and of the list of jobs, that comes back by itself.
 *
 * A browser opens six connections to a server, for all its tabs together (HTTP/1.1; measured: with six streams open
 * everything else hangs). Therefore a tab takes one of four slots for a stream, and without one, or hidden for a while,
 * asks now and then for what is new. Every log goes on from its cursor, so that nothing is missing and nothing twice.
 */

import { withLink } from "./access.js";
import { refusalOf } from "./load.js";
import { parser } from "./sse.js";

const SLOTS = 4;
const HIDDEN_MS = 30_000;
const ASK_MS = 1000;
const ASK_HIDDEN_MS = 20_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;

/**
 * @typedef {object} Follower  One log of the page.
 * @property {string} job
 * @property {() => string | null} cursor  Where to go on; null: no more is wanted.
 * @property {(event: import("./sse.js").ServerEvent) => void} take
 *
 * @typedef {object} Connection  How it goes.
 * @property {"idle" | "connecting" | "live" | "asking" | "waiting" | "offline" | "refused"} state
 * @property {number} retryAt  When it is tried again, as of `performance.now()`; 0 if that is not planned.
 * @property {string} reason  Why it is not live, in words.
 * @property {import("./load.js").Refused | null} refusal  What the server says where it is refused.
 */

export class Stream {
  /** @param {string} base  Tailer's root, with a slash at the end. */
  constructor(base) {
    this.base = base;
    /** @type {Set<Follower>} */
    this.followers = new Set();
    /** @type {((event: import("./sse.js").ServerEvent) => void) | null} */
    this.onList = null;
    /** A view of many logs as one, instead of followers. @type {import("./merged.js").Merged | null} */
    this.merged = null;
    /** Where that is in its logs. */
    this.bookmark = "";
    /** @type {Set<(connection: Connection) => void>} */
    this.watchers = new Set();
    /** @type {Connection} */
    this.connection = { state: "idle", retryAt: 0, reason: "", refusal: null };
    this.retryMs = 0;
    this.heardAt = 0;
    this.silenceMs = 40_000;
    /** @type {AbortController | null} */
    this.request = null;
    /** @type {(() => void) | null} */
    this.freeSlot = null;
    this.hidden = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.hideTimer = undefined;
    this.version = 0;
    addEventListener("online", () => this.now());
    addEventListener("offline", () => this.now());
    addEventListener("pagehide", () => this.stop());
    addEventListener("pageshow", (event) => event.persisted && this.now());
    document.addEventListener("visibilitychange", () => this.visibility());
    setInterval(() => this.checkAlive(), 5000);
  }

  /** @param {Follower} follower */
  add(follower) {
    this.followers.add(follower);
    this.restart();
  }

  /** @param {Follower} follower */
  remove(follower) {
    if (this.followers.delete(follower)) this.restart();
  }

  /** @param {import("./merged.js").Merged | null} merged  What is shown; null: no longer. */
  merge(merged) {
    this.merged = merged;
    this.bookmark = "";
    this.restart();
  }

  /** Connect anew soon, because what is wanted has changed. */
  restart() {
    this.stop();
    this.timer = setTimeout(() => this.connect(), 0);
  }

  /** Try at once. */
  now() {
    if (this.request && this.connection.state === "live" && navigator.onLine) return;
    this.retryMs = 0;
    this.restart();
  }

  stop() {
    clearTimeout(this.timer);
    this.request?.abort();
    this.request = null;
    this.leaveSlot();
  }

  visibility() {
    clearTimeout(this.hideTimer);
    if (!document.hidden) {
      const away = this.hidden;
      this.hidden = false;
      if (away || this.connection.state !== "live") this.now();
      return;
    }
    this.hideTimer = setTimeout(() => {
      this.hidden = true;
      this.restart();
    }, HIDDEN_MS);
  }

  /** A laptop that slept, or a network that is gone, closes no connection: silence is the sign. */
  checkAlive() {
    const { state } = this.connection;
    const speaks = this.request && (state === "live" || state === "connecting");
    if (speaks && performance.now() - this.heardAt > this.silenceMs) {
      this.stop();
      this.again("nothing was heard for a while");
    }
  }

  /** @returns {string | null} */
  query() {
    const wanted = [];
    for (const follower of this.followers) {
      const cursor = follower.cursor();
      if (cursor !== null) wanted.push(`job=${encodeURIComponent(follower.job)}@${cursor}`);
    }
    if (this.merged) wanted.splice(0, wanted.length, this.merged.query);
    if (this.onList) wanted.push("list=1");
    return wanted.length ? `json=${this.merged ? 1 : "chunks"}&${wanted.join("&")}` : null;
  }

  async connect() {
    const query = this.query();
    if (query === null) return this.tell("idle");
    if (!navigator.onLine) return this.tell("offline", "this computer is offline");
    const request = (this.request = new AbortController());
    const follows = !this.hidden && (await this.takeSlot());
    if (this.request !== request) {
      // The slot is for the one that follows, if there is one.
      if (!this.request || this.hidden) this.leaveSlot();
      return;
    }
    this.tell(this.connection.state === "asking" && !follows ? "asking" : "connecting");
    this.heardAt = performance.now();
    try {
      const response = await fetch(withLink(`${this.base}logs?${query}${follows ? "" : "&follow=0"}`), {
        headers: {
          Accept: "text/event-stream, application/problem+json",
          ...(this.bookmark ? { "Last-Event-ID": this.bookmark } : {}),
        },
        signal: request.signal,
        cache: "no-store",
      });
      if (this.request !== request) return;
      if (!response.ok) return await this.refused(response, request);
      if (response.status === 204) {
        this.stop();
        return this.tell("idle");
      }
      this.silenceMs = 2500 * Number(response.headers.get("Tailer-Heartbeat") || 15) + 2500;
      const state = follows ? "live" : "asking";
      // After a failure only what is told shows that all is well: it may be another one.
      if (!this.retryMs) this.tell(state);
      await this.read(response, request, state);
      if (this.request !== request) return;
      this.request = null;
      this.retryMs = 0;
      if (follows) this.ended();
      else this.later(this.hidden ? ASK_HIDDEN_MS : ASK_MS);
    } catch (error) {
      if (this.request === request) this.again(error instanceof Error ? error.message : String(error));
    }
  }

  /** @param {Response} response @param {AbortController} request @param {Connection["state"]} state  If all is well. */
  async read(response, request, state) {
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    const decoder = new TextDecoder();
    let job = "";
    const parse = parser((event) => {
      if (this.request !== request) return;
      if (event.name === "job") {
        const about = JSON.parse(event.data);
        job = about.job;
        this.merged?.begin(about);
      } else {
        this.dispatch(job, event);
        if (this.request === request) this.well(state);
      }
    }, (id) => {
      if (this.request === request && this.merged) this.bookmark = id;
    });
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.request !== request) return;
      this.heardAt = performance.now();
      parse(decoder.decode(value, { stream: true }));
    }
  }

  /** @param {string} job @param {import("./sse.js").ServerEvent} event */
  dispatch(job, event) {
    if (event.name === "jobs") this.onList?.(event);
    else if (event.name === "error" && isPassing(JSON.parse(event.data).status)) throw new Error(JSON.parse(event.data).title);
    else if (this.merged) this.merged.take(job, event);
    else for (const follower of this.followers) if (follower.job === job) follower.take(event);
  }

  /** @param {Connection["state"]} state */
  well(state) {
    this.retryMs = 0;
    if (this.connection.state !== state) this.tell(state);
  }

  /** The server ended the stream: because all is told, or because it stops. */
  ended() {
    const over = this.merged?.over && !this.onList;
    if (over || this.query() === null) this.tell("idle");
    else this.again("the server ended the stream");
    if (this.connection.state === "idle") this.stop();
  }

  /** @param {Response} response @param {AbortController} request */
  async refused(response, request) {
    if (isPassing(response.status)) return this.again(`the server answers ${response.status}`);
    const refusal = await refusalOf(response);
    if (this.request !== request) return;
    const { status, message: detail, login } = refusal;
    this.stop();
    for (const follower of this.followers) {
      const data = JSON.stringify({ status, detail, login });
      if (follower.cursor() !== null) follower.take({ name: "error", id: "", data });
    }
    this.tell("refused", detail, 0, refusal);
  }

  /** @param {string} reason */
  again(reason) {
    this.stop();
    this.retryMs = Math.min(LAST_RETRY_MS, this.retryMs ? this.retryMs * 2 : FIRST_RETRY_MS);
    // Jitter, or all who lost one server come back to the next one together.
    const wait = this.retryMs * (0.5 + Math.random() / 2);
    this.later(wait);
    this.tell("waiting", reason, performance.now() + wait);
  }

  /** @param {number} ms */
  later(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), ms);
  }

  /**
   * @param {Connection["state"]} state
   * @param {string} [reason]
   * @param {number} [retryAt]
   * @param {import("./load.js").Refused | null} [refusal]
   */
  tell(state, reason = "", retryAt = 0, refusal = null) {
    this.connection = { state, reason, retryAt, refusal };
    for (const watcher of this.watchers) watcher(this.connection);
  }

  /** @returns {Promise<boolean>}  Whether this tab may hold a stream open. */
  async takeSlot() {
    // Only pages of a secure origin have locks; others must do without the care for their neighbours.
    if (!navigator.locks) return true;
    for (let slot = 0; slot < SLOTS; slot++) {
      // Perhaps by one that was asked for before a restart.
      if (this.freeSlot) return true;
      if (await this.lock(`tailer-stream-${slot}`)) return true;
    }
    return false;
  }

  /** @param {string} name @returns {Promise<boolean>} */
  lock(name) {
    return new Promise((resolve) => {
      navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        if (!lock) return null;
        this.leaveSlot();
        return new Promise((free) => (this.freeSlot = () => free(undefined)));
      });
    });
  }

  leaveSlot() {
    this.freeSlot?.();
    this.freeSlot = null;
  }
}

/** @param {number} status @returns {boolean}  Whether it may be another one after a while. */
function isPassing(status) {
  return status >= 500 || status === 429;
}

/** @type {Map<string, Stream>} */
const streams = new Map();

/** @param {string} base @returns {Stream}  The one of this page. */
export function streamOf(base) {
  let stream = streams.get(base);
  if (!stream) streams.set(base, (stream = new Stream(base)));
  return stream;
}
