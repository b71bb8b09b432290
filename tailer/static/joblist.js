/** The list of jobs: newest first, with their states as they change. */

import { h, say } from "./dom.js";
import { look, seconds, stateOf, titleOf } from "./header.js";
import { jobList, Refused } from "./load.js";
import * as words from "./words.js";

const SECTIONS = /** @type {const} */ ([
  ["runs", "Running"],
  ["waits", "Waiting"],
  ["done", "Done"],
]);

/** @typedef {import("./load.js").JobInfo} JobInfo */

/** @param {JobInfo} job @returns {"runs" | "waits" | "done"} */
function sectionOf(job) {
  const [, kind] = look(stateOf(job));
  return kind === "runs" || kind === "waits" ? kind : "done";
}

/**
 * @param {string} base
 * @param {(job: string, beside: boolean) => void} onChoose
 * @param {(job: JobInfo) => void} onNews  Of a job that is new in it, or has changed.
 * @param {(queue: string) => void} onQueue
 */
export function jobs(base, onChoose, onNews, onQueue) {
  /** @type {Map<string, JobInfo>} */
  const known = new Map();
  /** @type {string[]} */
  let order = [];
  /** @type {string[]} */
  let older = [];
  /** @type {string | null | undefined} */
  let next;
  let chosen = new Set();
  /** @type {Map<string, ReturnType<typeof item>>} */
  const items = new Map();

  const input = /** @type {HTMLInputElement} */ (
    h("input", { type: "search", placeholder: "Filter jobs", "aria-label": "Filter jobs", spellcheck: false, oninput: draw })
  );
  const queues = h("div.queues", { role: "group", "aria-label": "All jobs of a queue", onkeydown: sideways });
  let shownQueue = "";
  const sections = SECTIONS.map(([kind, title]) => {
    const count = h("span.count");
    const list = h("ul");
    const element = h("section", { hidden: true }, h("h2", {}, title, " ", count), list);
    return { kind, count, list, element };
  });
  const more = /** @type {HTMLButtonElement} */ (
    h("button.older", { type: "button", hidden: true, onclick: () => void askForOlder() }, "Older jobs")
  );
  const none = h("p.none", {}, "No jobs yet.");
  const scroller = h("div.jobs", { onkeydown: arrows }, ...sections.map(({ element }) => element), none, more);
  const element = h("nav.list", { "aria-label": "Jobs" }, h("div.list-head", {}, input, queues), scroller);

  /** @param {string} id */
  function item(id) {
    const dot = h("span.dot", { "aria-hidden": "true" });
    const name = h("span.name");
    const state = h("span.state");
    const detail = h("span.detail");
    const link = h(
      "a.job",
      {
        href: `${base}jobs/${id}`,
        onclick: (/** @type {MouseEvent} */ event) => {
          if (event.ctrlKey || event.metaKey || event.button) return;
          event.preventDefault();
          onChoose(id, event.shiftKey);
        },
      },
      dot,
      name,
      state,
      detail,
    );
    return { element: h("li", {}, link), link, dot, name, state, detail };
  }

  /** @param {ReturnType<typeof item>} shown @param {JobInfo} job */
  function fill(shown, job) {
    const [word, kind] = look(stateOf(job));
    shown.dot.className = `dot ${kind}`;
    say(shown.name, titleOf(job));
    shown.link.title = `${job.description ?? ""}\n${job.job_id}`;
    say(shown.state, job.status === "queued" && job.position ? `#${job.position}` : word);
    shown.state.className = `state ${kind}`;
    const last = job.attempts.at(-1);
    const ran = last ? seconds(job, last.attempt) : null;
    const parts = [job.job_id.slice(0, 8), job.queue ?? "", ran === null ? "" : words.duration(last?.end ? ran : Math.round(ran)),
      job.lines ? words.plural(job.lines, "line") : ""];
    say(shown.detail, parts.filter(Boolean).join(" · "));
    if (chosen.has(job.job_id)) shown.link.setAttribute("aria-current", "true");
    else shown.link.removeAttribute("aria-current");
  }

  /** @returns {string[]}  Ids of what is listed, in order. */
  function listed() {
    const wanted = input.value.trim().toLowerCase();
    return [...new Set([...order, ...older])].filter((id) => {
      const job = known.get(id);
      const text = job && `${job.job_id} ${job.description} ${job.queue} ${look(stateOf(job))[0]}`.toLowerCase();
      return text && wanted.split(/\s+/).every((word) => text.includes(word));
    });
  }

  /** Links to the queues of the jobs that are known, where they can be followed as one. */
  function drawQueues() {
    const names = [...new Set([...known.values()].map(({ queue }) => queue ?? ""))].filter(Boolean).sort();
    const key = JSON.stringify([names, shownQueue]);
    if (queues.dataset.key === key) return;
    queues.dataset.key = key;
    queues.hidden = !names.length;
    const links = /** @type {HTMLElement[]} */ ([...queues.children]);
    const before = links.find((link) => !link.tabIndex)?.textContent ?? "";
    const stop = names.includes(before) ? before : names[0];
    queues.replaceChildren(
      ...names.map((name) =>
        h(
          "a.queue",
          {
            tabIndex: name === stop ? 0 : -1,
            href: `${base}view?queue=${encodeURIComponent(name)}`,
            title: `All jobs of the queue ${name} as one log`,
            "aria-current": name === shownQueue && "true",
            onclick: (/** @type {MouseEvent} */ event) => {
              if (event.ctrlKey || event.metaKey || event.button) return;
              event.preventDefault();
              onQueue(name);
            },
          },
          name,
        ),
      ),
    );
  }

  /** However many queues there are, they are one stop of the Tab key. @param {KeyboardEvent} event */
  function sideways(event) {
    const here = /** @type {HTMLElement} */ (event.target);
    const step = { ArrowRight: here.nextElementSibling, ArrowLeft: here.previousElementSibling }[event.key];
    if (!(step instanceof HTMLElement)) return;
    event.preventDefault();
    here.tabIndex = -1;
    step.tabIndex = 0;
    step.focus();
  }

  /** Draw what is known; what is in focus stays so, wherever it moves. */
  function draw() {
    const focused = /** @type {HTMLAnchorElement | null} */ (element.querySelector("a:focus"));
    drawList();
    if (!focused || focused === document.activeElement) return;
    const same = [...element.querySelectorAll("a")].find((link) => link.href === focused.href);
    same?.focus({ preventScroll: true });
  }

  function drawList() {
    drawQueues();
    const ids = listed();
    for (const { kind, count, list, element } of sections) {
      const here = ids.filter((id) => sectionOf(/** @type {JobInfo} */ (known.get(id))) === kind);
      element.hidden = !here.length;
      say(count, String(here.length));
      here.forEach((id, i) => {
        const shown = items.get(id) ?? item(id);
        items.set(id, shown);
        fill(shown, /** @type {JobInfo} */ (known.get(id)));
        if (list.children[i] !== shown.element) list.insertBefore(shown.element, list.children[i] ?? null);
      });
      while (list.children.length > here.length) list.lastElementChild?.remove();
    }
    stop();
    none.hidden = ids.length > 0;
    say(none, known.size ? "No job matches." : "No jobs yet.");
  }

  /** @returns {HTMLAnchorElement[]}  All that are to be seen, from above. */
  const links = () => sections.flatMap(({ list }) => [...list.querySelectorAll("a")]);

  /** Of hundreds of links only one is a stop of the Tab key: the one in focus, or that of a job that is shown. */
  function stop() {
    const all = links();
    const focused = all.find((link) => link === document.activeElement);
    const one = focused ?? all.find((link) => link.ariaCurrent) ?? all[0];
    for (const link of all) link.tabIndex = link === one ? 0 : -1;
  }

  /** @param {KeyboardEvent} event  Arrows lead from one to the next. */
  function arrows(event) {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    const all = links();
    const at = all.findIndex((link) => link === document.activeElement);
    const next = all[at + step];
    if (!step || at < 0 || !next) return;
    event.preventDefault();
    next.focus();
    stop();
  }

  async function loadOlder() {
    if (next === undefined) next = (await jobList(base, `limit=${Math.max(1, Math.min(500, order.length))}`)).next;
    if (!next) return;
    const page = await jobList(base, `limit=200&before=${encodeURIComponent(next)}`);
    next = page.next;
    for (const job of page.jobs) {
      known.set(job.job_id, job);
      older.push(job.job_id);
    }
    draw();
  }

  async function askForOlder() {
    more.disabled = true; // or the same ones would come twice
    try {
      await loadOlder();
      say(more, "Older jobs");
      more.hidden = !next;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      say(more, `Not loaded: ${error.message}. Try again`);
    } finally {
      more.disabled = false;
    }
  }

  setInterval(() => document.hidden || draw(), 1000);
  return {
    element,
    input,
    /** @param {import("./sse.js").ServerEvent} event */
    take(event) {
      const told = JSON.parse(event.data);
      for (const job of told.jobs) {
        known.set(job.job_id, job);
        onNews(job);
      }
      order = told.order;
      older = older.filter((id) => !order.includes(id));
      more.hidden = next === undefined ? !told.more : !next;
      draw();
    },
    /** @param {string[]} ids @param {string} queue  What is shown: jobs, or a queue. */
    choose(ids, queue) {
      chosen = new Set(ids);
      shownQueue = queue;
      draw();
    },
    /** @param {string | undefined} id @param {number} step @returns {string | undefined}  The job so far behind it. */
    beside(id, step) {
      const shown = links().map((link) => link.pathname.split("/").at(-1));
      const at = shown.indexOf(id);
      return shown[Math.max(0, Math.min(shown.length - 1, at + step))];
    },
  };
}
