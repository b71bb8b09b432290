/** A pane: a log with its header, tools, search, filter and footer, and what the reader does with it. */

import { ACTIONS } from "./actions.js";
import { keysDialog, lineDialog } from "./dialogs.js";
import { h, icon, say } from "./dom.js";
import { filter } from "./filter.js";
import { finder } from "./finder.js";
import { footer, header, look, stateOf, titleOf } from "./header.js";
import { Highlights } from "./highlights.js";
import { actionOf, KEYS } from "./keys.js";
import { Refused } from "./load.js";
import { Log } from "./log.js";
import { minimap } from "./minimap.js";
import { notices } from "./notices.js";
import { textOf } from "./selection.js";
import { View } from "./view.js";
import * as words from "./words.js";

const KEPT = "tailer";
const ICONS = {
  find: "M7 2a5 5 0 1 0 3.1 8.9l3 3 1-1-3-3A5 5 0 0 0 7 2m0 1.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7",
  filter: "M1.5 3h13L9.6 8.8V13l-3.2 1V8.8z",
  time: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3m-.7 1.8v3.5l2.6 1.6.7-1.2-1.9-1.1V4.8z",
  wrap: "M2 3.2h12v1.5H2zm0 4h9.5a2.75 2.75 0 0 1 0 5.5H10.2v1.8L7.2 12l3-2.5v1.7h1.3a1.25 1.25 0 0 0 0-2.5H2zm0 4h3.5v1.5H2z",
  fold: "M8 1 4.5 4.5h7zM2 7.25h12v1.5H2zM8 15l3.5-3.5h-7z",
  copy: "M5 1.5h8.5V11H12V3H5zM2.5 4.5H11V14.5H2.5zM4 6v7h5.5V6z",
  download: "M7.25 1.5h1.5v7l2.4-2.4 1.1 1.1L8 11.5 3.75 7.2l1.1-1.1 2.4 2.4zM2 13h12v1.5H2z",
  fullscreen: "M2 2h4.5v1.5h-3v3H2zm7.5 0H14v4.5h-1.5v-3h-3zM2 9.5h1.5v3h3V14H2zm10.5 0H14V14H9.5v-1.5h3z",
  help: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3m-.1 1.5C6.5 4.5 5.6 5.3 5.5 6.6h1.4c.1-.6.4-.9 1-.9s1 .3 1 .9c0 .5-.3.7-.8 1.1-.6.4-.9.8-.8 1.7h1.3c0-.5.2-.7.7-1.1.6-.4 1.1-.9 1.1-1.8 0-1.2-1-2-2.5-2M7.2 10.2h1.5v1.4H7.2z",
};

/** What was chosen in any pane stays chosen. @returns {{wrap?: boolean, time?: import("./rows.js").Look["time"]}} */
function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "{}");
  } catch {
    return {};
  }
}

export class Pane {
  /**
   * @param {import("./tailer-log.js").TailerLog} host  The element that it is in; it may have the attributes `attempt`,
   *   `line`, `theme`.
   * @param {string} base @param {string} job
   */
  constructor(host, base, job) {
    this.host = host;
    this.base = base;
    this.job = job;
    this.wrap = kept().wrap ?? true;
    this.time = kept().time ?? "off";
    /** @type {Partial<import("./url.js").State>} */
    this.wanted = {};
    this.selected = { from: 0, to: -1 };
    this.unseen = { line: 0, errors: 0 };
    this.highlights = new Highlights();
    this.later = 0;
    this.planned = 0;
    this.log = new Log(base, job, () => this.plan(), () => {
      this.view.update();
      this.rowsChanged();
    });
    this.view = new View(this.log.store, { time: this.time, since: 0 }, `Log of job ${job}`);
    this.finder = finder(this.log, this.view, {
      onHits: () => this.highlights.show(this.view, this.finder),
      onClose: () => this.act("escape"),
      reach: (line) => this.goTo(line),
    });
    this.filter = filter(this.log, { onSifted: () => this.view.redrawAll(), onClose: () => this.closeFilter() });
    this.header = header(this.log, (attempt) => void this.choose(attempt));
    this.footer = footer(this.log, () => this.act("nextError"));
    this.map = minimap(this.log, this.view, () => this.finder.lines(), (line) => this.goTo(line));
    this.notices = notices(this.log, this.view, () => this.log.stream.now());
    this.pill = h("button.pill", { type: "button", hidden: true, onclick: () => this.act("end") });
    this.help = keysDialog([...KEYS, ...host.pageKeys]);
    this.lineAsked = lineDialog((line) => void this.goTo(line));
    this.element = h(
      "div.pane",
      {},
      h("header", {}, this.header.element, this.toolbar()),
      this.finder.element,
      this.filter.element,
      this.notices.banner,
      h("div.body", {}, this.view.scroller, this.map.element, this.notices.empty, this.pill),
      this.footer.element,
      this.notices.toast,
      this.notices.speaker,
      this.help,
      this.lineAsked.element,
    );
    this.listen();
    this.watch = () => this.plan();
    this.log.stream.watchers.add(this.watch);
    this.clock = setInterval(this.watch, 1000);
    this.applyLook();
  }

  close() {
    clearInterval(this.clock);
    clearTimeout(this.later);
    cancelAnimationFrame(this.planned);
    this.log.stream.watchers.delete(this.watch);
    this.log.close();
    this.view.close();
    this.finder.stop();
    this.filter.stop();
    this.map.stop();
    this.highlights.clear();
  }

  toolbar() {
    /** @param {keyof typeof ICONS} name @param {string} action @param {string} title */
    const button = (name, action, title) => {
      const key = KEYS.find(([, other]) => other === action)?.[0];
      return h(
        `button.icon.${name}`,
        { type: "button", title: key ? `${title} (${key})` : title, "aria-label": title, onclick: () => this.act(action) },
        /** @type {any} */ (icon(ICONS[name])),
      );
    };
    return h(
      "div.tools",
      { role: "toolbar", "aria-label": "Log" },
      button("find", "find", "Search"),
      button("filter", "filter", "Filter"),
      button("time", "time", "Times"),
      button("wrap", "wrap", "Wrap long lines"),
      button("fold", "foldAll", "Fold groups"),
      button("copy", "copy", "Copy"),
      button("download", "download", "Download"),
      button("fullscreen", "fullscreen", "Full screen"),
      button("help", "help", "Keys"),
    );
  }

  listen() {
    const { scroller } = this.view;
    this.element.addEventListener("keydown", (event) => this.key(event));
    scroller.addEventListener("copy", (event) => this.copied(event));
    scroller.addEventListener("click", (event) => this.clicked(event));
    scroller.addEventListener("selectstart", () => this.view.read());
    this.view.onFollow = () => {
      this.unseen = { line: this.log.edgeLine, errors: this.log.store.errors.length };
      this.update();
    };
    this.view.onNear = (edge) => void this.log.more(edge);
    this.view.onDraw = () => {
      this.highlights.show(this.view, this.finder);
      this.map.update();
    };
  }

  // What the page wants, and what the reader does.

  /** @param {Partial<import("./url.js").State>} state  Show what it says, and nothing that it does not. */
  apply(state) {
    this.wanted = state;
    if (!state.q && this.finder.shown) this.finder.close();
    if (!this.filter.element.hidden) this.filter.close();
    if (state.wrap !== null && state.wrap !== undefined) this.wrap = state.wrap;
    if (state.time) this.time = state.time;
    this.applyLook();
    const [from, to] = (this.host.getAttribute("line") ?? "").split("-").map(Number);
    const line = state.line ?? (from ? { from, to: to || from } : null);
    const attempt = state.attempt ?? (Number(this.host.getAttribute("attempt")) || null);
    void this.open(attempt, line);
  }

  /**
   * Tell it if lines cannot be loaded: what is here stays.
   *
   * @param {Promise<boolean>} loaded @returns {Promise<boolean>}
   */
  async tried(loaded) {
    try {
      return await loaded;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (!this.log.closed) this.notices.say(`Not loaded: ${error.message}`);
      return false;
    }
  }

  /** @param {number} attempt  Show it, and no longer what the page had asked for with another one. */
  async choose(attempt) {
    this.wanted = {};
    if (await this.open(attempt, null)) this.changed(true);
  }

  /**
   * @param {number | null} attempt @param {{from: number, to: number} | null} line
   * @returns {Promise<boolean>}  Whether that is shown now.
   */
  async open(attempt, line) {
    const { log, wanted } = this;
    const again = log.state === "ready";
    const from = line?.from ?? null;
    const opened = again && attempt ? log.openAttempt(attempt, from) : log.open({ attempt, line: from });
    if (!(await this.tried(opened))) return false;
    this.view.draw();
    if (wanted.q) this.finder.open({ query: wanted.q, regex: wanted.re, matchCase: wanted.case, word: wanted.word });
    if (wanted.filter) this.filter.open({ query: wanted.filter });
    if (wanted.level || wanted.err || wanted.context) {
      this.filter.element.hidden = false;
      this.filter.set({ level: wanted.level, stderr: wanted.err, context: wanted.context });
    }
    this.selected = { from: 0, to: -1 };
    this.view.mark(0, -1);
    const error = log.failed && !wanted.end ? log.store.lastTraceback() : null;
    if (line) this.select(line.from, line.to, "center");
    else if (error) {
      this.view.show(error, "start");
      this.view.mark(error, error);
    } else this.view.follow();
    this.update();
    return true;
  }

  /** @returns {Partial<import("./url.js").State>}  What belongs into a URL of what is seen. */
  get state() {
    const { wanted, context, level, stderr } = this.filter.state;
    const find = this.finder.shown ? this.finder.wanted : null;
    return {
      attempt: this.log.attempt === this.log.newest ? null : this.log.attempt,
      q: find?.query ?? "",
      re: find?.regex ?? false,
      case: find?.matchCase ?? false,
      word: find?.word ?? false,
      filter: wanted.query,
      context,
      level,
      err: stderr,
      wrap: this.wrap ? null : false,
      time: this.time === "off" ? null : this.time,
      line: this.selected.to >= this.selected.from ? { ...this.selected } : null,
      end: false,
    };
  }

  /** @param {boolean} step  Whether one would want to go back to what was before. */
  changed(step) {
    this.host.dispatchEvent(new CustomEvent("tailer-change", { bubbles: true, composed: true, detail: { step } }));
  }

  /** @param {number} from @param {number} to @param {"center" | "start" | "nearest"} [where] */
  select(from, to, where) {
    this.selected = { from: Math.min(from, to), to: Math.max(from, to) };
    this.view.mark(this.selected.from, this.selected.to);
    if (where) this.view.show(this.selected.from, where);
    else this.view.read();
  }

  /** @param {number} line */
  async goTo(line) {
    if (!(await this.tried(this.log.reach(line)))) return;
    this.view.draw();
    this.view.show(line);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const action = actionOf(event, KEYS);
    if (!action) return;
    if (action === "findOnce" && this.finder.shown) return; // Once more gives the browser's own search.
    if (this.element.querySelector("dialog[open]")) return; // Escape closes that, and no other key is meant for the log.
    event.preventDefault();
    event.stopPropagation();
    this.act(action === "findOnce" ? "find" : action);
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const target = /** @type {HTMLElement} */ (event.composedPath()[0]);
    const row = this.view.lineOf(target);
    if (!row) return;
    if (target.matches(".n") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      const from = event.shiftKey && this.selected.to >= this.selected.from ? this.selected.from : row.n;
      this.select(from, row.n);
      this.changed(true);
    } else if (target.matches(".fold")) this.act("foldGroup", row);
    else if (target.matches(".json")) this.view.toggleTree(target, row);
    else if (target.matches(".times")) this.act("repeats");
  }

  /** @param {ClipboardEvent} event */
  copied(event) {
    const text = this.selectedText();
    if (text === null || !event.clipboardData) return;
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  }

  /** @returns {string | null}  What is selected with the mouse or the keyboard. */
  selectedText() {
    const selection = getSelection();
    const root = /** @type {any} */ (this.host.shadowRoot);
    if (!selection) return null;
    const [range] = /** @type {any} */ (selection).getComposedRanges?.({ shadowRoots: [root] }) ?? [];
    const inner = range ?? (root.getSelection?.() ?? selection).getRangeAt(0);
    return inner && !inner.collapsed ? textOf(this.view, inner) : null;
  }

  /**
   * @param {string} action  See keys.js.
   * @param {import("./store.js").Line} [row]
   */
  act(action, row) {
    ACTIONS[action]?.(this, row);
  }

  closeFilter() {
    this.filter.close();
    this.view.redrawAll();
    this.changed(false);
    this.view.scroller.focus();
  }

  // What is seen.

  applyLook() {
    this.element.classList.toggle("wrap", this.wrap);
    this.element.classList.toggle("timed", this.time !== "off");
    this.view.look.time = this.time;
    try {
      localStorage.setItem(KEPT, JSON.stringify({ wrap: this.wrap, time: this.time }));
    } catch {
      // It is only a convenience, and not to be had in some private windows.
    }
    const theme = this.host.getAttribute("theme");
    if (theme) this.host.style.colorScheme = theme;
    this.view.measure();
  }

  rowsChanged() {
    this.later ||= window.setTimeout(() => {
      this.later = 0;
      this.finder.refresh();
      this.filter.refresh();
      this.view.update();
      this.update();
    }, 100);
  }

  /** Update what is around the lines in the next frame. */
  plan() {
    this.planned ||= requestAnimationFrame(() => {
      this.planned = 0;
      this.update();
    });
  }

  update() {
    const { log, view } = this;
    const first = log.store.blocks[0]?.rows[0];
    view.look.since = Date.parse(log.info?.attempts.find((one) => one.attempt === log.attempt)?.started_at ?? "") || first?.time || 0;
    view.atEnd = !log.hasMoreBelow;
    this.header.update();
    this.footer.update();
    this.finder.update();
    this.notices.update();
    this.map.update();
    this.updatePill();
    this.element.dataset.state = look(stateOf(log.info))[1];
    const status = { job: this.job, state: stateOf(log.info), title: titleOf(log.info), unseen: this.news() };
    this.host.dispatchEvent(new CustomEvent("tailer-status", { bubbles: true, composed: true, detail: status }));
  }

  news() {
    return this.view.following ? 0 : Math.max(0, this.log.edgeLine - this.unseen.line);
  }

  updatePill() {
    const { log, view } = this;
    const lines = this.news();
    const errors = Math.max(0, log.store.errors.length - this.unseen.errors);
    const live = !log.over && log.attempt === log.newest;
    this.pill.hidden = view.following || !(live || log.hasMoreBelow);
    const bad = errors && log.attached ? ` (${words.plural(errors, "error")})` : "";
    say(this.pill, lines && live ? `↓ ${words.plural(lines, "new line")}${bad}` : "↓ Latest");
    this.pill.classList.toggle("bad", Boolean(bad && lines));
  }
}
