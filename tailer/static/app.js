/** Tailer's own page: the list of jobs, one to four panes, and all of it in the URL. */

import { loginUrl, useLink } from "./access.js";
import { h, icon, say } from "./dom.js";
import { jobs } from "./joblist.js";
import { actionOf, PAGE_KEYS } from "./keys.js";
import { streamOf } from "./stream.js";
import "./merged.js";
import "./tailer-log.js";
import { format, parse } from "./url.js";
import * as words from "./words.js";

const MOST_PANES = 4;
const NARROW = matchMedia("(max-width: 800px)");
const DOTS = /** @type {Record<string, string>} */ ({
  started: "2f81f7", finished: "2da44e", failed: "cf222e", killed: "cf222e", timeout: "cf222e", lost: "cf222e",
});

const base = document.body.dataset.base ?? "/";
const stream = streamOf(base);
const list = jobs(base, choose, (job) => {
  for (const one of panes()) if (one.job === job.job_id) one.pane?.log.learn(job);
}, (queue) => goTo({ queues: [queue] }));
const grid = h("main.panes");
const hintText = h("p");
const login = /** @type {HTMLAnchorElement} */ (h("a", { hidden: true }, "Log in"));
const hint = h("div.hint", {}, h("div", {}, hintText, login));
const toggle = h(
  "button.drawer",
  { type: "button", "aria-label": "Jobs", title: "Jobs (b)", onclick: () => showList(!document.body.classList.contains("listed")) },
  /** @type {any} */ (icon("M2 3.5h12V5H2zm0 3.8h12v1.5H2zm0 3.8h12v1.5H2z")),
);
const brand = h("a.brand", { href: base, onclick: home }, "Tailer");

let state = parse(location.pathname, location.search, location.hash, base);
// A link reads one log: there is no list to show.
useLink(state.link);
toggle.hidden = state.link !== "";
let active = 0;

/** @typedef {import("./tailer-log.js").TailerLog} TailerLog */

/** @returns {TailerLog[]} */
const panes = () => /** @type {TailerLog[]} */ ([...grid.querySelectorAll("tailer-log")]);

/** @param {string} job @param {Partial<import("./url.js").State>} wanted */
function pane(job, wanted) {
  const element = /** @type {TailerLog} */ (document.createElement("tailer-log"));
  element.setAttribute("base", base);
  element.setAttribute("job", job);
  element.wanted = wanted;
  element.pageKeys = PAGE_KEYS;
  element.addEventListener("focusin", () => activate(panes().indexOf(element)));
  element.addEventListener("pointerdown", () => activate(panes().indexOf(element)));
  return element;
}

/** @param {Partial<import("./url.js").State>} other  Show that, and nothing else. */
function goTo(other) {
  state = { ...parse(base, "", "", base), layout: state.layout, link: state.link, ...other };
  history.pushState(null, "", format(state, base));
  show();
  if (NARROW.matches) showList(false);
}

/** @type {import("./merged.js").TailerMerged | null} */
let merged = null;

/** Show all as one log, if that is what the URL says. @returns {boolean} */
function showMerged() {
  const { queues, jobs } = state;
  const wanted = queues.length > 0 || (state.merge && jobs.length > 1);
  if (!wanted) {
    merged?.remove();
    merged = null;
    return false;
  }
  merged = /** @type {import("./merged.js").TailerMerged} */ (document.createElement("tailer-merged"));
  grid.replaceChildren(merged);
  merged.show(base, { queues, jobs }, {
    onOpen: (job) => goTo({ jobs: [job] }),
    onSplit: () => goTo({ jobs: jobs.slice(0, MOST_PANES) }),
    onNews: (unseen) => {
      told.set("", { state: "", title: queues.join(", ") || words.plural(jobs.length, "job"), unseen });
      title();
    },
  });
  arrange();
  return true;
}

/** Show what the URL says. */
function show() {
  if (showMerged()) return;
  const shown = panes();
  const same = shown.length === state.jobs.length && shown.every((one, i) => one.job === state.jobs[i]);
  if (!same) grid.replaceChildren(...state.jobs.map((job, i) => pane(job, state.jobs.length === 1 || i === active ? state : {})));
  else shown[active]?.pane?.apply(state);
  arrange();
}

function arrange() {
  const count = panes().length;
  active = Math.max(0, Math.min(active, count - 1));
  grid.dataset.count = String(count);
  if (state.layout) grid.dataset.layout = state.layout;
  else delete grid.dataset.layout;
  if (count || merged) hint.remove();
  else grid.append(hint);
  activate(active);
  list.choose(merged ? state.jobs : panes().map(({ job }) => job), state.queues[0] ?? "");
  if (!count && !merged && NARROW.matches) showList(true);
}

/** @param {number} index */
function activate(index) {
  active = Math.max(0, index);
  panes().forEach((one, i) => one.classList.toggle("active", i === active && panes().length > 1));
  title();
}

/** @param {string} job @param {boolean} beside */
function choose(job, beside) {
  if (merged) return goTo({ jobs: [job] });
  const all = panes();
  const there = all.findIndex((one) => one.job === job);
  if (there >= 0) activate(there);
  else if (beside && all.length < MOST_PANES) grid.append(pane(job, {}));
  else if (all.length) all[active].replaceWith(pane(job, {}));
  else grid.append(pane(job, {}));
  if (beside && there < 0) active = panes().length - 1;
  arrange();
  remember(true);
  if (NARROW.matches) showList(false);
  panes()[active]?.pane?.view.scroller.focus();
}

/** @param {Event} event */
function home(event) {
  event.preventDefault();
  goTo({});
}

/** @param {boolean} step  Whether going back leads to what was before. */
function remember(step) {
  const all = panes();
  const one = all[active]?.pane?.state ?? {};
  const { layout, link } = state;
  state = { ...parse(base, "", "", base), ...(all.length ? one : {}), jobs: all.map(({ job }) => job), layout, link };
  const url = format(state, base);
  if (url === location.pathname + location.search + location.hash) return;
  if (step) history.pushState(null, "", url);
  else history.replaceState(null, "", url);
}

// Title and icon tell of the active pane, also from a tab in the background.

/** @type {Map<string, {state: string, title: string, unseen: number}>} */
const told = new Map();
const favicon = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));

function title() {
  const one = told.get(merged ? "" : (panes()[active]?.job ?? "none"));
  const news = one?.unseen ? `(${words.count(one.unseen)}) ` : "";
  const parts = one ? [one.title, merged ? "" : one.state || "…", "Tailer"] : ["Tailer"];
  document.title = news + parts.filter(Boolean).join(" · ");
  const colour = DOTS[one?.state ?? ""] ?? "8b949e";
  const ring = one?.unseen ? `<circle cx="12.5" cy="3.5" r="3.5" fill="#f0b400"/>` : "";
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="#${colour}"/>${
    `<path d="M4 5h8M4 8h8M4 11h5" stroke="#fff" stroke-width="1.5"/>`}${ring}</svg>`;
  const href = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  if (favicon.href !== href) favicon.href = href;
}

// Keys.

/** @type {Record<string, () => void>} */
const ACTIONS = {
  nextJob: () => walk(1),
  previousJob: () => walk(-1),
  split: () => {
    const job = list.beside(panes()[active]?.job, 1) ?? panes()[active]?.job;
    if (job && panes().length < MOST_PANES) choose(job, true);
  },
  closePane: () => {
    if (merged) return goTo({});
    panes()[active]?.remove();
    arrange();
    remember(true);
  },
  merge: () => {
    const jobs = merged ? state.jobs : panes().map((one) => one.job);
    if (jobs.length > 1) goTo({ jobs: merged ? jobs.slice(0, MOST_PANES) : jobs, merge: !merged });
  },
  list: () => showList(!document.body.classList.contains("listed")),
};

/** @param {number} step */
function walk(step) {
  const job = list.beside(panes()[active]?.job, step);
  if (job) choose(job, false);
}

/** @param {KeyboardEvent} event */
function key(event) {
  const number = Number(event.key);
  const target = /** @type {Element} */ (event.composedPath()[0]);
  if (number >= 1 && number <= panes().length && !event.ctrlKey && !target.closest?.("input, select")) {
    activate(number - 1);
    panes()[active].pane?.view.scroller.focus();
    return;
  }
  const action = actionOf(event, PAGE_KEYS);
  if (action && ACTIONS[action]) {
    event.preventDefault();
    ACTIONS[action]();
  } else if (target === document.body || list.element.contains(target)) panes()[active]?.pane?.key(event);
}

/** @param {boolean} wanted */
function showList(wanted) {
  const shown = wanted && !state.link;
  document.body.classList.toggle("listed", shown);
  stream.onList = shown ? list.take : null;
  stream.restart();
  if (!NARROW.matches && !state.link) localStorage.setItem("tailer-list", shown ? "1" : "0");
}

/** Say what to do where no log is shown. */
function updateHint() {
  const { refusal } = stream.connection;
  say(hintText, refusal ? `The jobs cannot be shown: ${refusal.message}.` : "Choose a job to see what it prints.");
  login.hidden = !refusal?.login;
  if (refusal?.login) login.href = loginUrl(refusal.login, base);
}

document.body.append(
  h("aside", {}, h("div.top", {}, brand), list.element),
  h("div.scrim", { onclick: () => showList(false) }),
  toggle,
  grid,
);
document.addEventListener("keydown", key);
document.addEventListener("tailer-change", (event) => {
  const index = panes().indexOf(/** @type {TailerLog} */ (event.target));
  if (index === active) remember(/** @type {CustomEvent} */ (event).detail.step);
});
document.addEventListener("tailer-status", (event) => {
  const { job, ...about } = /** @type {CustomEvent} */ (event).detail;
  told.set(job, about);
  title();
});
addEventListener("popstate", () => {
  state = parse(location.pathname, location.search, location.hash, base);
  show();
});
stream.watchers.add(updateHint);
updateHint();
showList(!NARROW.matches && localStorage.getItem("tailer-list") !== "0");
show();
