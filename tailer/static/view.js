/**
 * Shows a store's rows in a scroller, as real text in blocks.
 *
 * No row is made for itself when it comes into sight: blocks far from it are skipped by the browser
 * (`content-visibility`), so that its own search, selection and printing work. Only beyond `MAX_FILLED` are blocks
 * taken out, and leave a box of their height until they come near again. Measured: docs/performance.md.
 */

import { h } from "./dom.js";
import { jsonOf } from "./marks.js";
import { rangeIn, rowElement } from "./rows.js";
import { BLOCK } from "./store.js";

/** Blocks whose rows are in the page. */
export const MAX_FILLED = Math.ceil(100_000 / BLOCK);
/** Newest blocks that are always made at once; those before them may wait until there is time. */
const URGENT = 2;
const FRAME_MS = 8;
const FLOOD_MS = 300;
const AT_END_PX = 8;
const NEAR_PX = 1500;
const SHED_MS = 500;

/**
 * @typedef {import("./store.js").Block} Block
 * @typedef {import("./store.js").Line} Line
 *
 * @typedef {object} Box  A block in the page.
 * @property {Block} block
 * @property {HTMLElement} element
 * @property {number} filled  How many of its rows are in the page.
 * @property {number} height  What it was when it was last seen, px.
 */

export class View {
  /**
   * @param {import("./store.js").Store} store
   * @param {import("./rows.js").Look} look
   * @param {string} label
   */
  constructor(store, look, label) {
    this.store = store;
    this.look = look;
    this.following = true;
    /** Whether the newest line of the log is below the last row. */
    this.atEnd = true;
    this.onFollow = () => {};
    this.onNear = /** @type {(edge: "top" | "bottom") => void} */ (() => {});
    this.onDraw = () => {};
    this.lines = h("div.lines");
    this.top = h("div.edge");
    this.bottom = h("div.edge");
    this.scroller = h(
      "div.scroller",
      { role: "log", "aria-live": "off", "aria-label": label, tabIndex: 0 },
      this.top,
      this.lines,
      this.bottom,
    );
    /** @type {Map<Block, Box>} */
    this.boxes = new Map();
    /** @type {WeakMap<Element, Box>} */
    this.byElement = new WeakMap();
    /** @type {Set<Box>} */
    this.near = new Set();
    /** Those that were near, and may have kept their layout. @type {Set<Box>} */
    this.passed = new Set();
    this.shedding = 0;
    this.filled = 0;
    this.rowHeight = 20;
    this.columns = 80;
    this.lastTop = 0;
    this.frame = 0;
    /** @type {number} */
    this.idle = 0;
    this.floodUntil = 0;
    this.marked = { from: 0, to: -1 };
    this.observer = new IntersectionObserver((entries) => this.seen(entries), {
      root: this.scroller,
      rootMargin: `${NEAR_PX}px 0px`,
    });
    this.sizes = new ResizeObserver(() => this.measure());
    this.sizes.observe(this.scroller);
    // Rows that were skipped so far may turn out to be higher than thought.
    this.heights = new ResizeObserver(() => this.following && this.toEnd());
    this.heights.observe(this.lines);
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.scroller.addEventListener("wheel", (event) => event.deltaY < 0 && this.read(), { passive: true });
  }

  /** Show what has changed in the next frame. */
  update() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  close() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.idle);
    clearTimeout(this.shedding);
    this.observer.disconnect();
    this.sizes.disconnect();
    this.heights.disconnect();
  }

  // Following and reading.

  /** The reader looks at something: leave it where it is. */
  read() {
    if (!this.following) return;
    this.following = false;
    this.scroller.classList.remove("following");
    this.onFollow();
  }

  /** Stay with the newest line from now on. */
  follow() {
    if (!this.following) {
      this.following = true;
      this.scroller.classList.add("following");
      this.onFollow();
    }
    this.toEnd();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.lastTop = this.scroller.scrollTop;
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    if (this.following) {
      if (scrollTop < this.lastTop - 2 && below > AT_END_PX) this.read();
    } else if (scrollTop > this.lastTop && below <= AT_END_PX && this.atEnd) this.follow();
    this.lastTop = scrollTop;
    if (scrollTop < NEAR_PX) this.onNear("top");
    if (below < NEAR_PX) this.onNear("bottom");
    this.onDraw();
  }

  // Drawing.

  draw() {
    const changes = this.store.drain();
    if (changes.reset) this.clear();
    const keep = this.following ? null : this.anchor();
    const started = performance.now();
    for (const block of changes.dropped) this.remove(block);
    this.insert(changes.before);
    for (const block of changes.after) this.append(block);
    // Rows that are not in the page yet need no second look: most are touched before they are first made.
    for (const row of changes.touched) this.redraw(row);
    this.fillNewest(changes, started);
    if (keep) this.restore(keep);
    if (this.following) this.toEnd();
    this.tidy();
    this.onDraw();
  }

  clear() {
    this.observer.disconnect();
    this.boxes.clear();
    this.near.clear();
    this.passed.clear();
    this.lines.replaceChildren();
    this.filled = 0;
    this.measure();
  }

  /** @param {Block} block @returns {Box} */
  box(block) {
    const element = h("div.block");
    const box = { block, element, filled: 0, height: 0 };
    this.boxes.set(block, box);
    this.byElement.set(element, box);
    return box;
  }

  /** @param {Block} block */
  append(block) {
    const box = this.box(block);
    this.lines.append(box.element);
    this.reserve(box);
    this.observer.observe(box.element);
  }

  /** @param {Block[]} blocks  In order, to stand above all others. */
  insert(blocks) {
    const first = this.lines.firstChild;
    for (const block of blocks) {
      const box = this.box(block);
      this.lines.insertBefore(box.element, first);
      this.reserve(box);
      this.observer.observe(box.element);
    }
  }

  /** @param {Block} block */
  remove(block) {
    const box = this.boxes.get(block);
    if (!box) return;
    if (box.filled) this.filled -= 1;
    this.observer.unobserve(box.element);
    this.near.delete(box);
    this.boxes.delete(block);
    box.element.remove();
  }

  /**
   * Make the newest rows, and those of blocks that have grown; older blocks wait if there are many.
   *
   * @param {import("./store.js").Changes} changes @param {number} started
   */
  fillNewest(changes, started) {
    for (const block of changes.grown) {
      const box = this.boxes.get(block);
      if (box?.filled) this.fill(box);
      else if (box) this.reserve(box);
    }
    const fresh = changes.after;
    // In a flood, most of what comes will have scrolled away before anybody could read it.
    if (fresh.length >= URGENT) this.floodUntil = started + FLOOD_MS;
    for (let i = fresh.length - 1; i >= Math.max(0, fresh.length - URGENT); i--) {
      const box = this.boxes.get(fresh[i]);
      if (box) this.fill(box);
    }
    if (this.filled < Math.min(MAX_FILLED, this.boxes.size)) this.fillLater();
  }

  /** Fill what is left when nothing else is to be done, so that the browser's own search finds it. */
  fillLater() {
    this.idle ||= window.setTimeout(() => {
      this.idle = 0;
      const started = performance.now();
      if (started < this.floodUntil) return this.fillLater();
      const keep = this.following ? null : this.anchor();
      for (let i = this.store.blocks.length - 1; i >= 0 && this.filled < MAX_FILLED; i--) {
        const box = this.boxes.get(this.store.blocks[i]);
        if (!box || box.filled) continue;
        if (performance.now() - started > FRAME_MS) {
          this.fillLater();
          break;
        }
        this.fill(box);
      }
      if (keep) this.restore(keep);
      else this.toEnd();
    }, 50);
  }

  /** @param {Box} box  Make all its rows that are not there yet. */
  fill(box) {
    const { rows } = box.block;
    if (box.filled === rows.length) return;
    if (!box.filled) {
      this.filled += 1;
      box.element.style.height = "";
      box.element.classList.remove("empty");
    }
    const made = document.createDocumentFragment();
    for (let i = box.filled; i < rows.length; i++) made.append(this.make(rows, i));
    box.element.append(made);
    box.filled = rows.length;
    this.reserve(box);
  }

  /** @param {Line[]} rows @param {number} i */
  make(rows, i) {
    const row = rows[i];
    const element = rowElement(row, this.look, rows[i - 1], this.store);
    if (!this.store.shows(row)) element.hidden = true;
    if (row.n >= this.marked.from && row.n <= this.marked.to) element.classList.add("marked");
    return element;
  }

  /** @param {Box} box  Take its rows out of the page. */
  empty(box) {
    if (!box.filled) return;
    box.height = box.element.offsetHeight || box.height;
    box.element.replaceChildren();
    box.element.classList.add("empty");
    box.filled = 0;
    this.filled -= 1;
    this.reserve(box);
  }

  /** @param {Box} box  Tell the browser how high it will be, before it has laid it out. */
  reserve(box) {
    const height = box.height || this.estimate(box.block);
    if (box.filled) box.element.style.containIntrinsicBlockSize = `auto ${height}px`;
    else {
      box.element.style.height = `${height}px`;
      box.element.classList.add("empty");
    }
  }

  /** @param {Block} block */
  estimate(block) {
    let lines = 0;
    const wraps = this.columns < Infinity;
    for (const row of block.rows) {
      if (this.store.shows(row)) lines += wraps ? Math.max(1, Math.ceil(row.text.length / this.columns)) : 1;
    }
    return lines * this.rowHeight;
  }

  /** Keep no more in the page than it can bear: take out what is farthest from the reader. */
  tidy() {
    if (this.filled <= MAX_FILLED) return;
    const { blocks } = this.store;
    const here = this.following ? blocks.length - 1 : blocks.indexOf(this.anchor()?.box.block ?? blocks[0]);
    let low = 0;
    let high = blocks.length - 1;
    while (this.filled > MAX_FILLED && low < high) {
      const farthest = here - low > high - here ? blocks[low++] : blocks[high--];
      const box = this.boxes.get(farthest);
      if (box && !this.near.has(box)) this.empty(box);
    }
  }

  /** @param {IntersectionObserverEntry[]} entries */
  seen(entries) {
    let missing = false;
    for (const entry of entries) {
      const box = this.byElement.get(entry.target);
      if (!box) continue;
      if (entry.isIntersecting) this.near.add(box);
      else if (this.near.delete(box)) this.passed.add(box);
      missing ||= entry.isIntersecting && !box.filled;
    }
    if (missing) {
      const keep = this.following ? null : this.anchor();
      for (const box of this.near) this.fill(box);
      if (keep) this.restore(keep);
      this.tidy();
    }
    if (this.passed.size) this.shedding ||= window.setTimeout(() => this.shed(), SHED_MS);
    this.onDraw();
  }

  /**
   * Take the layout from rows that are far away again. Chromium skips them, but keeps what it had computed, 7 KiB a row
   * (measured: docs/performance.md); without boxes there is none, and it makes none until they come near.
   */
  shed() {
    this.shedding = 0;
    const far = [...this.passed].filter((box) => box.filled && !this.near.has(box) && this.boxes.has(box.block));
    this.passed.clear();
    if (!far.length) return;
    for (const box of far) box.height = box.element.offsetHeight || box.height;
    for (const box of far) {
      this.reserve(box);
      box.element.style.display = "none";
    }
    void getComputedStyle(far[0].element).display; // A style that nobody asks for is never computed.
    for (const box of far) box.element.style.display = "";
  }

  /** @param {Line} row  Show it as it is now, if it is in the page. */
  redraw(row) {
    const shown = this.elementOf(row);
    const place = shown && this.store.find(row.n);
    if (place) shown.replaceWith(this.make(place.block.rows, place.index));
  }

  /** Show all rows anew, because they are to look different; what the reader looks at stays where it is. */
  redrawAll() {
    const keep = this.following ? null : this.anchor();
    for (const box of this.boxes.values()) {
      box.height = 0;
      const near = this.near.has(box);
      this.empty(box);
      box.height = 0;
      if (near) this.fill(box);
      else this.reserve(box);
    }
    if (keep) this.restore(keep);
    else this.toEnd();
    this.fillLater();
    this.onDraw();
  }

  /** @param {HTMLElement} button @param {Line} row  Show what is JSON as a tree, or no longer. */
  toggleTree(button, row) {
    const element = /** @type {HTMLElement} */ (button.closest(".r"));
    const tree = element.querySelector(".tree");
    button.setAttribute("aria-expanded", String(!tree));
    this.read();
    if (tree) tree.remove();
    else element.append(h("pre.tree", {}, JSON.stringify(jsonOf(row.text), null, 2)));
  }

  // Places.

  /** @returns {{box: Box, index: number, top: number} | null}  The first row in sight, and where it is. */
  anchor() {
    const edge = this.scroller.getBoundingClientRect().top;
    for (const box of this.inOrder()) {
      const rect = box.element.getBoundingClientRect();
      if (rect.bottom <= edge) continue;
      if (!box.filled) return { box, index: 0, top: rect.top };
      const rows = box.element.children;
      let low = 0;
      let high = rows.length - 1;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (rows[middle].getBoundingClientRect().bottom > edge) high = middle;
        else low = middle + 1;
      }
      return { box, index: low, top: rows[low].getBoundingClientRect().top };
    }
    return null;
  }

  /** @returns {Box[]}  Those near the part in sight, from above; all of them if that is not known. */
  inOrder() {
    const { blocks } = this.store;
    const places = [...this.near].map((box) => [blocks.indexOf(box.block), box]);
    const near = /** @type {[number, Box][]} */ (places).filter(([at]) => at >= 0).sort(([a], [b]) => a - b);
    if (near.length) return near.map(([, box]) => box);
    return /** @type {Box[]} */ (blocks.map((block) => this.boxes.get(block)).filter(Boolean));
  }

  /** @param {{box: Box, index: number, top: number}} kept  Scroll so that it is where it was. */
  restore({ box, index, top }) {
    const element = box.filled ? (box.element.children[index] ?? box.element) : box.element;
    if (!element.isConnected) return;
    const moved = element.getBoundingClientRect().top - top;
    if (Math.abs(moved) >= 1) this.scroller.scrollTop += moved;
    this.lastTop = this.scroller.scrollTop;
  }

  /** @param {number} line @returns {HTMLElement | null}  Its row's element, made if need be. */
  rowOf(line) {
    const place = this.store.find(line);
    const box = place && this.boxes.get(place.block);
    if (!place || !box) return null;
    this.fill(box);
    return /** @type {HTMLElement} */ (box.element.children[place.index]);
  }

  /** @param {Element} element @returns {Line | null} */
  lineOf(element) {
    const row = element.closest(".r");
    const box = row?.parentElement && this.byElement.get(row.parentElement);
    if (!row || !box) return null;
    return box.block.rows[Array.prototype.indexOf.call(box.element.children, row)] ?? null;
  }

  /**
   * Scroll to a line and leave it there.
   *
   * @param {number} line
   * @param {"center" | "start" | "nearest"} [where]
   */
  show(line, where = "center") {
    this.read();
    // Heights above are estimates until they are laid out: again when they are known. And not by `scrollIntoView`,
    // which would scroll the page around a pane too.
    for (let again = 0; again < 3; again++) {
      const row = this.rowOf(line)?.getBoundingClientRect();
      if (!row) break;
      const { top, height } = this.scroller.getBoundingClientRect();
      const at = row.top - top;
      if (where === "nearest" && at >= 0 && at + row.height <= height) break;
      this.scroller.scrollTop += at - (where === "start" ? this.rowHeight * 2 : (height - row.height) / 2);
    }
    this.lastTop = this.scroller.scrollTop;
    this.onDraw();
  }

  /** @returns {number | null}  The number of the first line in sight. */
  firstVisible() {
    const place = this.anchor();
    return place?.box.block.rows[place.index]?.n ?? null;
  }

  /** @param {number} from @param {number} to  Lines to be marked; none if `to` is before `from`. */
  mark(from, to) {
    for (const element of this.lines.querySelectorAll(".marked")) element.classList.remove("marked");
    this.marked = { from, to };
    for (const row of this.store.between(from, to)) this.elementOf(row)?.classList.add("marked");
  }

  /** @param {Line} row @returns {Element | null}  What shows it, if it is in the page. */
  elementOf(row) {
    const place = this.store.find(row.n);
    const box = place && this.boxes.get(place.block);
    if (!place || !box || place.index >= box.filled || place.block.rows[place.index] !== row) return null;
    return box.element.children[place.index];
  }

  /** @param {(row: Line) => Iterable<[number, number]>} partsOf @returns {Range[]}  Of what is near. */
  rangesOf(partsOf) {
    const ranges = [];
    for (const box of this.near) {
      for (let i = 0; i < box.filled; i++) {
        for (const [from, to] of partsOf(box.block.rows[i])) {
          const range = rangeIn(/** @type {HTMLElement} */ (box.element.children[i]), from, to);
          if (range) ranges.push(range);
        }
      }
    }
    return ranges;
  }

  /** Learn how high a row is and how much fits into it, for the boxes of rows that nobody has seen. */
  measure() {
    const probe = h("div.r.probe", {}, h("a.n", { "data-n": "1" }), "0".repeat(100));
    this.lines.append(probe);
    const range = document.createRange();
    range.selectNodeContents(/** @type {Node} */ (probe.lastChild));
    const rects = range.getClientRects();
    const style = getComputedStyle(probe);
    this.rowHeight = Number.parseFloat(style.lineHeight) || 20;
    const width = [...rects].reduce((sum, rect) => sum + rect.width, 0) / 100 || 8;
    const room = probe.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight);
    this.columns = style.whiteSpace === "pre" ? Infinity : Math.max(1, Math.floor(room / width));
    probe.remove();
    if (this.following) this.toEnd();
  }
}
