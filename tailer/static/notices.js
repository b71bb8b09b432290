/** What is said besides the log: why there is nothing yet, that the connection is gone, and all of it to screen readers. */

import { loginUrl } from "./access.js";
import { h, say } from "./dom.js";
import { look, seconds, sentence, stateOf } from "./header.js";
import * as words from "./words.js";

const QUIET_S = 60;
const SPEAK_MS = 5000;
const SKELETON_MS = 150;

/**
 * @param {import("./log.js").Log} log
 * @param {import("./view.js").View} view
 * @param {() => void} onRetry
 */
export function notices(log, view, onRetry) {
  const reasonText = h("p");
  const login = /** @type {HTMLAnchorElement} */ (h("a.now", { hidden: true }, "Log in"));
  const empty = h("div.empty-state", { hidden: true }, reasonText, login);
  const text = h("span");
  const retry = h("button.now", { type: "button", onclick: onRetry }, "Try now");
  const banner = h("div.banner", { hidden: true }, text, retry);
  const speaker = h("div.speaker", { role: "status", "aria-live": "polite" });
  const toast = h("div.toast", { hidden: true, "aria-hidden": "true" });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let toasted;
  const opened = performance.now();
  const spoken = { at: -SPEAK_MS, line: 0, errors: 0, state: "", connection: "" };
  let resumed = 0;
  let lost = false;

  /** @returns {string}  Why no line is to be seen. */
  function why() {
    const { info, problem } = log;
    if (log.state === "refused") return refusal(problem);
    if (problem) return `${problem.message}; trying again`;
    if (log.state === "loading") return performance.now() - opened > SKELETON_MS ? "Loading…" : "";
    if (view.store.rows) return "";
    const queue = info?.queue ? ` in the queue ${info.queue}` : "";
    switch (stateOf(info)) {
      case "queued":
        return info?.position ? `${words.ordinal(info.position)}${queue}` : `Waits${queue}`;
      case "scheduled":
        return `Scheduled${queue}`;
      case "deferred":
        return `Waits for other jobs${queue}`;
      case "started": {
        const ran = info && seconds(info, log.attempt);
        return `No output yet${ran ? `, after ${words.duration(Math.round(ran))}` : ""}`;
      }
      default:
        return log.end ? (log.end.reason ?? "No output") : `${look(stateOf(info))[0]}${queue}`;
    }
  }

  function updateBanner() {
    const { state, reason, retryAt } = log.stream.connection;
    const broken = state === "waiting" || state === "offline" || (state === "connecting" && lost);
    const away = !log.over && log.state === "ready" && broken;
    if (away) {
      lost = true;
      const wait = Math.max(0, Math.ceil((retryAt - performance.now()) / 1000));
      if (state === "offline") say(text, "This computer is offline. The log goes on when it is back.");
      else if (state === "waiting") say(text, `Connection lost (${reason}). Next try in ${wait} s.`);
      else say(text, "Connection lost. Trying again…");
    } else if (lost && state === "live") {
      lost = false;
      resumed = performance.now();
      say(text, "Connected again. No line is missing.");
    }
    const again = resumed > 0 && performance.now() - resumed < 4000;
    banner.hidden = !away && !again;
    banner.className = `banner ${again && !away ? "good" : "warn"}`;
    retry.hidden = state !== "waiting";
  }

  function updateEdges() {
    const { store } = view;
    const above = store.firstLine - 1;
    say(view.top, above > 0 ? (log.loading ? "Loading…" : `↑ ${words.plural(above, "earlier line")}`) : "");
    const quiet = Math.floor((performance.now() - log.heardAt) / 1000);
    const silent = !log.over && stateOf(log.info) === "started" && store.rows && quiet >= QUIET_S && log.stream.connection.state === "live";
    const below = log.hasMoreBelow ? log.total - store.lastLine : 0;
    say(view.bottom, below > 0 ? `↓ ${words.plural(below, "later line")}` : silent ? `No output for ${words.duration(quiet)}` : "");
  }

  /** Say what is new to those who hear it, and not too often. */
  function speak() {
    const now = performance.now();
    if (log.state !== "ready" || now - spoken.at < SPEAK_MS) return;
    const state = stateOf(log.info);
    const connection = log.over ? "done" : log.stream.connection.state;
    const said = [];
    const lines = log.edgeLine - spoken.line;
    // What was there at first was not new.
    if (spoken.line && lines > 0) {
      const errors = log.store.errors.length - spoken.errors;
      said.push(words.plural(lines, "new line") + (errors > 0 ? `, ${words.plural(errors, "error")}` : ""));
    }
    if (spoken.state && state !== spoken.state) said.push(`job ${log.end ? sentence(log.end) : look(state)[0]}`);
    if (spoken.connection === "live" && connection === "waiting") said.push("reconnecting");
    Object.assign(spoken, { line: log.edgeLine, errors: log.store.errors.length, state, connection });
    if (!said.length) return;
    spoken.at = now;
    say(speaker, said.join("; "));
  }

  return {
    banner,
    empty,
    speaker,
    toast,
    /** @param {string} what */
    say(what) {
      spoken.at = performance.now();
      say(speaker, what);
      say(toast, what);
      toast.hidden = false;
      clearTimeout(toasted);
      toasted = setTimeout(() => (toast.hidden = true), 2000);
    },
    readOut() {
      const { blocks } = view.store;
      const rows = [...(blocks.at(-2)?.rows ?? []), ...(blocks.at(-1)?.rows ?? [])].slice(-5);
      spoken.at = performance.now();
      say(speaker, rows.map((row) => row.text).join("\n"));
    },
    update() {
      const reason = why();
      empty.hidden = !reason;
      empty.classList.toggle("bad", log.state === "refused");
      say(reasonText, reason);
      const where = (log.state === "refused" && log.problem?.login) || "";
      login.hidden = !where;
      if (where) login.href = loginUrl(where, log.base);
      updateBanner();
      updateEdges();
      speak();
    },
  };
}

/** @param {import("./load.js").Refused | null} problem */
function refusal(problem) {
  switch (problem?.status) {
    case 404:
      return "There is no such job, or it left no log and RQ has forgotten it.";
    case 410:
      return "The log of this job has expired.";
    case 401:
      return `This log asks for a login: ${problem.message}.`;
    case 403:
      return `This log is not for you to read: ${problem.message}`;
    default:
      return problem?.message ?? "";
  }
}
