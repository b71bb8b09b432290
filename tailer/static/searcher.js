/** Has a worker search, one block at a time, so that an expression that takes too long is ended with it. */

/**
 * @typedef {import("./search.js").Hit} Hit
 * @typedef {{texts: string[], ns: number[]}} Block
 *
 * @typedef {object} Search
 * @property {RegExp} pattern
 * @property {Iterator<Block>} blocks
 * @property {(hits: Hit[]) => void} onHits
 * @property {() => void} onDone
 * @property {(reason: string) => void} onSlow
 */

/** What a block may take, for each begun four million characters. */
export const BUDGET_MS = 250;
const BUDGET_CHARS = 4_000_000;
const SLOW = "the expression takes too long";
const BROKEN = "the search does not run";

/** Does one thing at a time: searches of one pattern, one after the other. */
export class Searcher {
  /** @type {Worker | null} */
  #worker = null;
  #ready = false;
  #id = 0;
  /** @type {Search[]} */
  #searches = [];
  /** Takes what the worker answers; null: nothing is asked. @type {((data: any) => void) | null} */
  #answer = null;
  /** Takes why there will be no answer. @type {((reason: string) => void) | null} */
  #fail = null;
  #budget = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {() => Worker} makeWorker */
  constructor(makeWorker) {
    this.makeWorker = makeWorker;
  }

  /**
   * Search blocks: after other searches of the same pattern (the same object), but instead of those of another one.
   *
   * @param {RegExp} pattern
   * @param {Iterable<Block>} blocks  Taken one by one, each when the one before is done.
   * @param {(hits: Hit[]) => void} onHits  Called once for each block, in order, also when it has none.
   * @param {() => void} onDone
   * @param {(reason: string) => void} onSlow  This search and those after it are given up.
   */
  search(pattern, blocks, onHits, onDone, onSlow) {
    if (this.#searches.some((search) => search.pattern !== pattern)) this.#searches = [];
    this.#searches.push({ pattern, blocks: blocks[Symbol.iterator](), onHits, onDone, onSlow });
    if (!this.#answer) this.#next();
  }

  /** Search no more; nobody is told anything any more. */
  stop() {
    this.#searches = [];
    this.#settle();
    this.#worker?.terminate();
    this.#worker = null;
    this.#id += 1;
  }

  /** Send the next block. */
  #next() {
    while (!this.#answer && this.#searches.length) {
      const search = this.#searches[0];
      const { value, done } = search.blocks.next();
      if (!done) return this.#ask(search, value);
      this.#searches.shift();
      search.onDone();
    }
  }

  /** @param {Search} search @param {Block} block */
  #ask(search, { texts, ns }) {
    // A search that was replaced has nobody to tell, but is watched until it ends.
    const wanted = () => this.#searches[0] === search;
    this.#answer = ({ hits }) => {
      this.#settle();
      if (wanted()) search.onHits(hits);
      this.#next();
    };
    this.#fail = (reason) => {
      if (!wanted()) return this.#next();
      this.#searches = [];
      search.onSlow(reason);
    };
    const chars = texts.reduce((sum, text) => sum + text.length, 0);
    this.#post({ texts, ns }, search.pattern, BUDGET_MS * (1 + Math.floor(chars / BUDGET_CHARS)));
  }

  /** @param {object} message @param {RegExp} pattern @param {number} budget @returns {number}  Its id. */
  #post(message, { source, flags }, budget) {
    this.#worker ??= this.#start();
    this.#budget = budget;
    const id = ++this.#id;
    this.#worker.postMessage({ id, re: { source, flags }, ...message });
    this.#watch();
    return id;
  }

  #start() {
    const worker = this.makeWorker();
    this.#ready = false;
    worker.onmessage = ({ data }) => {
      if (data.id === this.#id) this.#answer?.(data);
      if (!data.ready) return;
      // The time that it took to load was not the expression's.
      this.#ready = true;
      if (this.#answer) this.#watch();
    };
    worker.onerror = () => this.#giveUp(BROKEN);
    return worker;
  }

  /** Wait for an answer, in two halves: between them, a page that was busy reads what is there already. */
  #watch() {
    clearTimeout(this.#timer);
    if (!this.#ready) return;
    const half = this.#budget / 2;
    this.#timer = setTimeout(() => {
      this.#timer = setTimeout(() => this.#giveUp(SLOW), half);
    }, half);
  }

  /** @param {string} reason */
  #giveUp(reason) {
    const [fail, searches] = [this.#fail, this.#searches];
    this.stop();
    this.#searches = searches;
    fail?.(reason);
  }

  /** Nothing is asked any more. */
  #settle() {
    clearTimeout(this.#timer);
    this.#answer = null;
    this.#fail = null;
  }
}
