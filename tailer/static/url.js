/** What a page shows, in its URL: `/jobs/ID?q=…#L120-L184`, `/view?job=ID&job=ID`. */

const JOB = /^[A-Za-z0-9_-]{1,200}$/;
const LINES = /^#L([1-9]\d{0,11})(?:-L?([1-9]\d{0,11}))?$/;
const TIMES = new Set(["off", "abs", "rel", "delta"]);
const LEVELS = new Set(["error", "warning"]);
const LAYOUT = /^[1-9]x[1-9]$/;
const LINK = /^[\w.-]{1,1000}$/;
/** A link must not make a page follow any number of logs. */
const MOST_JOBS = 32;
const MOST_QUEUES = 16;

/**
 * @typedef {object} State
 * @property {string[]} jobs  None of them twice.
 * @property {number | null} attempt
 * @property {string} q  What is searched.
 * @property {boolean} re
 * @property {boolean} case
 * @property {boolean} word
 * @property {string} filter
 * @property {number} context  Lines around those that the filter lets through.
 * @property {string} level  "error", "warning" or "".
 * @property {boolean} err  stderr only.
 * @property {boolean | null} wrap  Null: as chosen before.
 * @property {"off" | "abs" | "rel" | "delta" | null} time
 * @property {{from: number, to: number} | null} line
 * @property {boolean} end  Open at the end, also if there is a traceback to show. Never with a line.
 * @property {string[]} queues  Whose jobs are shown as one log.
 * @property {boolean} merge  Show the jobs as one log.
 * @property {string} layout  Columns and rows of panes: "2x1" beside each other, "1x2" one above the other; or "".
 * @property {string} link  The credential of a link that reads one log; or "".
 */

/**
 * @param {string} pathname @param {string} search @param {string} hash
 * @param {string} base  Tailer's root, with a slash at the end.
 * @returns {State}  What cannot be understood is left out.
 */
export function parse(pathname, search, hash, base) {
  const given = new URLSearchParams(search);
  const path = pathname.startsWith(base) ? pathname.slice(base.length) : "";
  const job = path.startsWith("jobs/") ? [path.slice(5)] : path === "view" ? given.getAll("job") : [];
  const time = given.get("t") ?? "";
  const level = given.get("level") ?? "";
  const wrap = given.get("wrap");
  const layout = given.get("layout") ?? "";
  const link = given.get("link") ?? "";
  const jobs = [...new Set(job.filter((id) => JOB.test(id)))].slice(0, MOST_JOBS);
  return {
    jobs,
    attempt: whole(given.get("attempt")) || null,
    q: given.get("q") ?? "",
    re: given.get("re") === "1",
    case: given.get("case") === "1",
    word: given.get("word") === "1",
    filter: given.get("filter") ?? "",
    context: whole(given.get("context")),
    level: LEVELS.has(level) ? level : "",
    err: given.get("err") === "1",
    wrap: wrap === "1" ? true : wrap === "0" ? false : null,
    time: TIMES.has(time) ? /** @type {State["time"]} */ (time) : null,
    line: lines(hash),
    end: hash === "#end",
    queues: path === "view" ? [...new Set(given.getAll("queue").filter(Boolean))].slice(0, MOST_QUEUES) : [],
    merge: jobs.length > 1 && given.get("merge") === "1",
    layout: LAYOUT.test(layout) ? layout : "",
    link: LINK.test(link) ? link : "",
  };
}

/** @param {string | null} text @returns {number}  0 if it is none. */
function whole(text) {
  return /^\d{1,9}$/.test(text ?? "") ? Number(text) : 0;
}

/** @param {string} hash */
function lines(hash) {
  const match = LINES.exec(hash);
  if (!match) return null;
  const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
  return { from: Math.min(from, to), to: Math.max(from, to) };
}

/** @param {State} state @param {string} base @returns {string}  Its URL, no longer than `parse` needs it. */
export function format(state, base) {
  const query = new URLSearchParams();
  const several = state.jobs.length > 1 || state.queues.length > 0;
  if (several) for (const job of state.jobs) query.append("job", job);
  for (const queue of state.queues) query.append("queue", queue);
  /** @param {string} name @param {string | number | boolean | null} value */
  const set = (name, value) => value && query.set(name, value === true ? "1" : String(value));
  set("attempt", state.attempt);
  set("q", state.q);
  set("re", state.re);
  set("case", state.case);
  set("word", state.word);
  set("filter", state.filter);
  set("context", state.context);
  set("level", state.level);
  set("err", state.err);
  if (state.wrap !== null) query.set("wrap", state.wrap ? "1" : "0");
  set("t", state.time);
  set("merge", state.merge && state.jobs.length > 1);
  set("layout", state.layout);
  set("link", state.link);
  const path = several ? "view" : state.jobs.length ? `jobs/${state.jobs[0]}` : "";
  const { line } = state;
  const hash = line ? `#L${line.from}${line.to > line.from ? `-L${line.to}` : ""}` : state.end ? "#end" : "";
  return `${base}${path}${query.size ? `?${query}` : ""}${hash}`;
}
