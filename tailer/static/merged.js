/**
 * Many jobs' logs as one: of queues, or of jobs that were chosen. Lines come whole and in order from the server, each
 * with the job that it is of, which a click on its name opens.
 */

import { Screen } from "./ansi.js";
import { sheet } from "./colours.js";
import { h, icon, say } from "./dom.js";
import { DEBUG, ERROR, HOLE } from "./flags.js";
import { look, sentence } from "./header.js";
import { Reading } from "./reading.js";
import { Store } from "./store.js";
import { streamOf } from "./stream.js";
import { View } from "./view.js";
import * as words from "./words.js";

/** Lines of each log that are shown first. */
const TAIL = 200;
/** Of a queue, jobs that have ended so lately are shown, too. */
const SINCE = "2m";
/** Colours of names, see pane.css: as they come, so that few jobs differ. */
const COLOURS = 6;
/** RQ's own ids are told apart by their beginning. */
const RQS_OWN = /^([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const TIMES = /** @type {const} */ (["off", "abs", "delta"]);

/**
 * @typedef {import("./store.js").Line} Line
 *
 * @typedef {object} Job
 * @property {string} id
 * @property {import("./types.js").Tag} tag
 * @property {Reading} reading
 * @property {boolean} over
 */

/** Its store: rows of many logs, numbered as they come. */
export class MergedStore extends Store {
  /**
   * @param {string} text  A line. @param {number} time @param {boolean} err @param {Job} job
   * @param {number} [flags]  For a line of Tailer's own.
   */
  add(text, time, err, job, flags) {
    const screen = new Screen();
    screen.write(`${text}\n`, this.nextLine, time, err);
    const [first] = screen.take().added;
    const row = /** @type {Line} */ ({ ...first, n: this.nextLine, tag: job.tag });
    row.flags = flags ?? job.reading.flagsOf(row);
    this.nextLine += 1;
    this.chars += row.text.length;
    this.place(row);
    if (row.flags & ERROR) this.failed(row);
    this.trim();
  }
}

export class Merged {
  /**
   * @param {HTMLElement} host
   * @param {string} base  Tailer's root, with a slash at the end.
   * @param {{queues: string[], jobs: string[]}} wanted
   * @param {{onOpen: (job: string) => void, onSplit: () => void, onNews: (unseen: number) => void}} to
   */
  constructor(host, base, wanted, to) {
    this.host = host;
    this.base = base;
    this.wanted = wanted;
    this.to = to;
    this.store = new MergedStore();
    this.store.foldRepeats = false;
    /** @type {Map<string, Job>} */
    this.jobs = new Map();
    this.begun = 0;
    this.unseen = 1;
    this.planned = 0;
    this.waiting = "";
    this.stream = streamOf(base);
    const title = wanted.queues.length ? words.plural(wanted.queues.length, "queue").replace(/^1 /, "") : "jobs";
    const names = wanted.queues.length ? wanted.queues.join(", ") : words.plural(wanted.jobs.length, "job");
    this.title = names;
    this.view = new View(this.store, { time: "off", since: 0 }, `Lines of ${names}`);
    this.view.onFollow = () => this.plan();
    this.view.onNear = () => {};
    this.link = h("span.link-state", { role: "img" });
    this.facts = h("div.facts");
    this.pill = h("button.pill", { type: "button", hidden: true, onclick: () => this.view.follow() });
    this.empty = h("div.empty-state", {}, h("p"));
    const badge = wanted.queues.length ? title : "merged";
    this.element = h(
      "div.pane.merged.wrap",
      {},
      h(
        "header",
        {},
        h("div.head", {}, h("div.what", {}, this.link, h("span.badge.ended", {}, badge), h("span.title", {}, names)), this.facts),
        this.toolbar(),
      ),
      h("div.body", {}, this.view.scroller, this.empty, this.pill),
    );
    this.view.scroller.addEventListener("click", (event) => this.clicked(event));
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.watch = () => this.plan();
    this.stream.watchers.add(this.watch);
    this.stream.merge(this);
    this.update();
  }

  close() {
    cancelAnimationFrame(this.planned);
    this.stream.watchers.delete(this.watch);
    this.stream.merge(null);
    this.view.close();
  }

  toolbar() {
    /** @param {string} name @param {string} title @param {string} path @param {() => void} act */
    const button = (name, title, path, act) =>
      h(`button.icon.${name}`, { type: "button", title, "aria-label": title, onclick: act }, /** @type {any} */ (icon(path)));
    return h(
      "div.tools",
      { role: "toolbar", "aria-label": "Lines" },
      this.wanted.queues.length ? null : button("split", "Side by side (m)", "M2 3h5.25v10H2zm6.75 0H14v10H8.75z", () => this.to.onSplit()),
      button("time", "Times (t)", "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M8 3a5 5 0 1 1 0 10A5 5 0 0 1 8 3m-.7 1.8v3.5l2.6 1.6.7-1.2-1.9-1.1V4.8z", () => this.times()),
      button("wrap", "Wrap long lines (w)", "M2 3.2h12v1.5H2zm0 4h9.5a2.75 2.75 0 0 1 0 5.5H10.2v1.8L7.2 12l3-2.5v1.7h1.3a1.25 1.25 0 0 0 0-2.5H2zm0 4h3.5v1.5H2z", () => this.wrap()),
    );
  }

  times() {
    const { look } = this.view;
    look.time = TIMES[(TIMES.indexOf(/** @type {any} */ (look.time)) + 1) % TIMES.length];
    this.element.classList.toggle("timed", look.time !== "off");
    this.view.measure();
    this.view.redrawAll();
  }

  wrap() {
    this.element.classList.toggle("wrap");
    this.view.measure();
    this.view.redrawAll();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = /** @type {Record<string, () => void>} */ ({
      t: () => this.times(),
      w: () => this.wrap(),
      G: () => this.view.follow(),
      End: () => this.view.follow(),
      f: () => (this.view.following ? this.view.read() : this.view.follow()),
    })[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const target = /** @type {HTMLElement} */ (event.composedPath()[0]);
    const row = target.matches?.(".tag") && this.view.lineOf(target);
    if (!row || !row.tag || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.to.onOpen(row.tag.job);
  }

  // What the stream asks, and tells.

  /** Whether there is nothing more to come. */
  get over() {
    const { queues, jobs } = this.wanted;
    return !queues.length && jobs.every((job) => this.jobs.get(job)?.over);
  }

  /** @returns {string}  The parameters of what is wanted. */
  get query() {
    const { queues, jobs } = this.wanted;
    const named = [...queues.map((name) => ["queue", name]), ...jobs.map((job) => ["job", job]), ["tail", String(TAIL)]];
    if (queues.length) named.push(["since", SINCE]);
    return new URLSearchParams(named).toString();
  }

  /** @param {{job: string, function?: string | null, queue?: string | null}} about  Whose the next events are. */
  begin({ job, function: called }) {
    if (!job || this.jobs.has(job)) return;
    const short = RQS_OWN.exec(job)?.[1] ?? job;
    const name = called?.split(".").at(-1) ?? "";
    const colour = this.begun++ % COLOURS;
    const tag = { job, short, name, title: `${called ?? ""} ${job}`.trim(), href: `${this.base}jobs/${job}`, colour };
    this.jobs.set(job, { id: job, tag, reading: new Reading(this.store), over: false });
  }

  /** @param {string} id @param {import("./sse.js").ServerEvent} event */
  take(id, event) {
    if (event.name === "waiting") {
      const { waiting, left_out: leftOut } = JSON.parse(event.data);
      this.waiting = [waiting && `${words.plural(waiting, "more job")} waiting`, leftOut && `${words.count(leftOut)} left out`].filter(Boolean).join(", ");
      return this.plan();
    }
    const job = this.jobs.get(id);
    if (!job) return;
    if (event.name === "message") for (const line of event.data.split("\n")) this.line(job, JSON.parse(line));
    else if (event.name === "end") this.ended(job, JSON.parse(event.data));
    else if (event.name === "hole") {
      const hole = JSON.parse(event.data);
      this.store.add(`${hole.missing} bytes are missing here: ${hole.cause}`, Date.parse(hole.time), false, job, HOLE);
    } else if (event.name === "error") {
      // Told again with each new connection.
      if (!job.over) this.store.add(JSON.parse(event.data).detail, Date.now(), false, job, ERROR);
      job.over = true;
    } else return;
    this.view.update();
    this.plan();
  }

  /** @param {Job} job @param {import("./store.js").LogRecord} record */
  line(job, record) {
    job.over = false;
    this.store.add(record.text ?? "", Date.parse(record.time), record.stream === "stderr", job);
  }

  /** @param {Job} job @param {import("./load.js").EndRecord} end */
  ended(job, end) {
    const bad = look(end.outcome)[1] === "bad";
    this.store.add(sentence(end), end.ended_at ? end.ended_at * 1000 : Date.now(), false, job, bad ? ERROR : DEBUG);
    job.over = true;
    // Their rows keep their names; of those that are gone for long nothing else is kept.
    if (this.jobs.size > 1000) for (const [id, { over }] of this.jobs) if (over) this.jobs.delete(id);
  }

  // What is seen.

  plan() {
    this.planned ||= requestAnimationFrame(() => {
      this.planned = 0;
      this.update();
    });
  }

  update() {
    const { connection } = this.stream;
    const { view, store } = this;
    if (view.following) this.unseen = store.nextLine;
    const unseen = store.nextLine - this.unseen;
    this.pill.hidden = view.following;
    say(this.pill, unseen ? `↓ ${words.plural(unseen, "new line")}` : "↓ Latest");
    this.link.className = `link-state ${connection.state}`;
    this.link.title = connection.reason || connection.state;
    this.link.setAttribute("aria-label", this.link.title);
    const running = [...this.jobs.values()].filter(({ over }) => !over).length;
    const parts = [`${running} running`, words.plural(store.nextLine - 1, "line"), this.waiting];
    say(this.facts, store.rows ? parts.filter(Boolean).join(" · ") : this.waiting);
    this.empty.hidden = store.rows > 0;
    const { refusal } = connection;
    const nothing = this.wanted.queues.length ? "No job of the queue prints anything yet." : "These jobs have printed nothing yet.";
    say(/** @type {Element} */ (this.empty.firstChild), refusal ? `The lines cannot be shown: ${refusal.message}.` : nothing);
    this.empty.classList.toggle("bad", Boolean(refusal));
    this.to.onNews(unseen);
  }
}

export class TailerMerged extends HTMLElement {
  /** @param {string} base @param {{queues: string[], jobs: string[]}} wanted @param {Merged["to"]} to */
  show(base, wanted, to) {
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    this.merged?.close();
    this.merged = new Merged(this, base, wanted, to);
    const { view } = this.merged;
    const style = h("link", { rel: "stylesheet", href: new URL("./pane.css", import.meta.url).href });
    style.addEventListener("load", () => view.measure());
    root.adoptedStyleSheets = [sheet()];
    root.replaceChildren(style, this.merged.element);
  }

  disconnectedCallback() {
    this.merged?.close();
    this.merged = undefined;
  }
}

customElements.define("tailer-merged", TailerMerged);
