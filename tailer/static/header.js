/** What is told above and below a log: state, function, attempts, times, figures, connection; and how it ended. */

import { h, say } from "./dom.js";
import * as words from "./words.js";

/** What a state looks like: its word, and its class. */
const STATES = /** @type {Record<string, [string, string]>} */ ({
  queued: ["queued", "waits"],
  deferred: ["deferred", "waits"],
  scheduled: ["scheduled", "waits"],
  created: ["created", "waits"],
  rate_limited: ["rate limited", "waits"],
  ready_to_enqueue: ["ready", "waits"],
  started: ["running", "runs"],
  finished: ["finished", "good"],
  failed: ["failed", "bad"],
  killed: ["killed", "bad"],
  timeout: ["timed out", "bad"],
  lost: ["lost", "bad"],
  stopped: ["stopped", "ended"],
  canceled: ["canceled", "ended"],
  expired: ["expired", "ended"],
  deleted: ["deleted", "ended"],
});
const SIGNALS = /** @type {Record<number, string>} */ ({
  1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
  11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ",
});

/**
 * @typedef {import("./load.js").JobInfo} JobInfo
 * @typedef {import("./load.js").EndRecord} EndRecord
 */

/** @param {JobInfo | null} info @returns {string}  A word of RQ's, or an outcome. */
export function stateOf(info) {
  if (!info) return "";
  const end = info.attempts.at(-1)?.end;
  // Of a job that went down with its worker, RQ says so for long, if not for ever.
  const runs = info.status === "started" && !(end?.final && end.status === "started");
  const waits = STATES[info.status ?? ""]?.[1] === "waits" || runs;
  return (waits ? info.status : (info.outcome ?? info.status)) ?? "deleted";
}

/** @param {string} state @returns {[string, string]}  A word for people, and a class. */
export function look(state) {
  return STATES[state] ?? [state || "…", "waits"];
}

/** @param {JobInfo | null} info @returns {string} */
export function titleOf(info) {
  const call = info?.description ?? "";
  const name = call.split("(")[0].trim();
  return name || info?.job_id || "";
}

/** @param {EndRecord} end @returns {string}  How it ended, in a line for a person. */
export function sentence(end) {
  let what = look(end.outcome)[0];
  if (end.signal && end.outcome === "killed") {
    what += ` by signal ${end.signal}${SIGNALS[end.signal] ? ` (${SIGNALS[end.signal]})` : ""}`;
  }
  if (end.duration !== null && end.duration !== undefined) what += ` after ${words.duration(end.duration)}`;
  return end.reason ? `${what}: ${end.reason}` : what;
}

/** @param {JobInfo} info @param {number} attempt @returns {number | null}  Seconds that it runs, or ran. */
export function seconds(info, attempt) {
  const one = info.attempts.find((known) => known.attempt === attempt);
  if (one?.end?.duration) return one.end.duration;
  const from = one?.started_at ?? info.started_at;
  if (!from || (one?.end && !one.end.ended_at)) return null;
  const until = one?.end?.ended_at ? one.end.ended_at * 1000 : Date.now();
  return Math.max(0, (until - Date.parse(from)) / 1000);
}

/**
 * @param {import("./log.js").Log} log
 * @param {(attempt: number) => void} onAttempt
 */
export function header(log, onAttempt) {
  const badge = h("span.badge", {}, "…");
  const title = h("span.title");
  const tabs = h("span.attempts", { role: "tablist", "aria-label": "Attempts" });
  const elapsed = h("span.fact.elapsed");
  const worker = h("span.fact.worker");
  const size = h("span.fact.size");
  const rate = h("span.spark", { role: "img" });
  const link = h("span.link-state", { role: "img" });
  const facts = h("div.facts", {}, elapsed, size, worker, rate);
  const element = h("div.head", {}, h("div.what", {}, link, badge, title, tabs), facts);
  let shown = "";

  function attempts() {
    const all = log.info?.attempts ?? [];
    const key = JSON.stringify([log.attempt, all.map(({ attempt, end }) => [attempt, end?.outcome])]);
    if (key === shown) return;
    shown = key;
    tabs.hidden = all.length < 2;
    tabs.replaceChildren(
      ...all.map(({ attempt, end }) =>
        h(
          `button.attempt.${end ? look(end.outcome)[1] : "runs"}`,
          {
            type: "button",
            role: "tab",
            "aria-selected": String(attempt === log.attempt),
            title: `Attempt ${attempt}: ${end ? sentence(end) : "running"}`,
            onclick: () => onAttempt(attempt),
          },
          String(attempt),
        ),
      ),
    );
  }

  function update() {
    const { info } = log;
    const [word, kind] = look(stateOf(info));
    const place = info?.status === "queued" && info.position ? ` #${info.position}` : "";
    say(badge, log.state === "refused" ? "no log" : info ? word + place : "…");
    badge.className = `badge ${info ? kind : "waits"}`;
    say(title, titleOf(info) || log.job);
    title.title = [info?.description, log.job, info?.queue && `queue ${info.queue}`].filter(Boolean).join("\n");
    attempts();
    const ran = info && seconds(info, log.attempt);
    say(elapsed, ran === null || ran === undefined ? "" : words.duration(log.end ? ran : Math.round(ran)));
    const bytes = Math.max(
      info?.attempts.find(({ attempt }) => attempt === log.attempt)?.bytes ?? 0,
      log.attempt === log.newest ? Number(log.edge.split(":")[1]) : 0,
    );
    say(size, log.total ? `${words.plural(log.total, "line")} · ${words.bytes(bytes)}` : "");
    const name = info?.attempts.find(({ attempt }) => attempt === log.attempt)?.worker ?? info?.worker ?? "";
    say(worker, name && `on ${name.length > 20 ? `${name.slice(0, 8)}…` : name}`);
    worker.title = name ? `Worker ${name}` : "";
    sparkline(rate, log);
    connection(link, log);
  }
  return { element, update };
}

/** @param {HTMLElement} element @param {import("./log.js").Log} log */
function sparkline(element, log) {
  log.count(0);
  const rates = log.rates.slice(-30);
  const most = Math.max(0, ...rates);
  element.hidden = !most || log.over;
  if (element.hidden) return;
  element.setAttribute("aria-label", `${words.count(rates.at(-2) ?? 0)} lines a second`);
  element.title = `${words.count(rates.at(-2) ?? 0)} lines/s, at most ${words.count(most)}/s in the last 30 s`;
  const bars = rates.map((lines) => {
    const bar = h("i");
    bar.style.height = `${Math.round((lines / most) * 100)}%`;
    return bar;
  });
  element.replaceChildren(...bars);
}

/** @param {HTMLElement} element @param {import("./log.js").Log} log */
function connection(element, log) {
  const state = log.over ? "done" : log.stream.connection.state;
  const text = /** @type {Record<string, string>} */ ({
    done: "the log is complete",
    live: "live",
    asking: "asks now and then: other tabs use the connections, or this one is hidden",
    connecting: "connecting",
    waiting: "connection lost",
    offline: "offline",
    idle: "not connected",
    refused: "refused",
  })[state];
  element.className = `link-state ${state}`;
  element.setAttribute("aria-label", text);
  element.title = text;
}

/**
 * @param {import("./log.js").Log} log
 * @param {() => void} onNextError
 */
export function footer(log, onNextError) {
  const text = h("span.sentence");
  const next = h("button.next", { type: "button", title: "Next error (e)", onclick: onNextError }, "Next error");
  const element = h("div.foot", { hidden: true }, text, next);
  function update() {
    const { end } = log;
    element.hidden = !end;
    if (!end) return;
    element.className = `foot ${look(end.outcome)[1]}`;
    say(text, sentence(end));
    next.hidden = !log.store.errors.length;
  }
  return { element, update };
}
