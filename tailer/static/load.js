/** Asks the server for what is there: what it knows of a job, and parts of a log. */

import { withLink } from "./access.js";
import { parser } from "./sse.js";

const LAST_LINES = 1000;
const AROUND = 1000;

/**
 * @typedef {import("./store.js").LogRecord} LogRecord
 *
 * @typedef {object} AttemptInfo
 * @property {number} attempt
 * @property {string} started_at
 * @property {string | null} worker
 * @property {number} bytes
 * @property {number} lines
 * @property {EndRecord | null} end
 *
 * @typedef {object} EndRecord
 * @property {string} outcome
 * @property {boolean} final
 * @property {string | null} status  RQ's at that moment.
 * @property {number | null} exit
 * @property {number | null} signal
 * @property {string | null} reason
 * @property {number | null} duration
 * @property {number} attempt
 * @property {number} bytes
 * @property {number} lines
 * @property {number | null} ended_at
 *
 * @typedef {object} JobInfo
 * @property {string} job_id
 * @property {string | null} status
 * @property {string | null} queue
 * @property {number | null} position
 * @property {string | null} description
 * @property {string | null} worker
 * @property {string | null} created_at
 * @property {string | null} enqueued_at
 * @property {string | null} started_at
 * @property {string | null} ended_at
 * @property {string | null} outcome
 * @property {number} bytes
 * @property {number} lines
 * @property {AttemptInfo[]} attempts
 */

/**
 * The server will not answer this; `status` is HTTP's, 0 if it could not be reached. `login` is the page where one logs
 * in, if that would help.
 */
export class Refused extends Error {
  /** @param {number} status @param {string} detail @param {string} [login] */
  constructor(status, detail, login = "") {
    super(detail);
    this.status = status;
    this.login = login;
  }
}

/** @param {Response} response  One that is not ok. @returns {Promise<Refused>} */
export async function refusalOf(response) {
  const text = (await response.text()).trim();
  try {
    const { detail, login } = JSON.parse(text);
    return new Refused(response.status, detail, login);
  } catch {
    // A line of text, of ours or of a proxy.
    return new Refused(response.status, text || response.statusText);
  }
}

/** @param {string} url @param {string} accept @param {AbortSignal} [signal] @returns {Promise<Response>} */
async function ask(url, accept, signal) {
  let response;
  try {
    response = await fetch(withLink(url), { headers: { Accept: accept }, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "the server cannot be reached");
  }
  if (response.ok) return response;
  throw await refusalOf(response);
}

/** @param {string} base @param {string} job @param {AbortSignal} [signal] @returns {Promise<JobInfo>} */
export async function jobInfo(base, job, signal) {
  return (await ask(`${base}jobs/${job}`, "application/json", signal)).json();
}

/**
 * @param {string} base
 * @param {string} query
 * @returns {Promise<{jobs: JobInfo[], next: string | null}>}
 */
export async function jobList(base, query) {
  return (await ask(`${base}jobs?${query}`, "application/json")).json();
}

/**
 * @param {string} base
 * @param {string} job
 * @param {number} attempt
 * @param {string} part  Which: "tail=1000" or "lines=1-2000".
 * @param {AbortSignal} [signal]
 * @returns {Promise<{records: LogRecord[], start: string}>}  `start` is the cursor before them.
 */
export async function part(base, job, attempt, part, signal) {
  const url = `${base}jobs/${job}/log?attempt=${attempt}&${part}&follow=0&json=chunks`;
  const response = await ask(url, "text/event-stream, application/problem+json", signal);
  /** @type {LogRecord[]} */
  const records = [];
  const parse = parser((event) => {
    if (event.name === "message" || event.name === "hole") records.push(JSON.parse(event.data));
    if (event.name === "error") throw new Refused(503, JSON.parse(event.data).detail);
  });
  let text;
  try {
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, "the connection broke");
  }
  parse(text);
  return { records, start: response.headers.get("Tailer-Cursor") ?? `${attempt}:0` };
}

/**
 * @typedef {object} Piece  Lines that follow each other.
 * @property {LogRecord[]} records
 * @property {string} start  The cursor before them.
 * @property {number} first  The number of the first line.
 * @property {number} to  That of the last one, if there are so many; infinite: there are no more.
 *
 * @param {string} base @param {string} job @param {number} attempt
 * @param {number | null} line  What is to be around it; null, and one that is not there: the last lines.
 * @returns {Promise<Piece>}
 */
export async function piece(base, job, attempt, line) {
  if (line) {
    const from = Math.max(1, line - AROUND);
    const to = line + AROUND;
    const { records, start } = await part(base, job, attempt, `lines=${from}-${to}`);
    // What is missing may have begun before.
    if (records.length) return { records, start, first: Math.min(from, records[0].line), to };
  }
  const { records, start } = await part(base, job, attempt, `tail=${LAST_LINES}`);
  return { records, start, first: records[0]?.line ?? 1, to: Infinity };
}

/** @param {string} base @param {string} job @param {number} attempt @param {string} [more] @returns {string} */
export function logUrl(base, job, attempt, more = "") {
  return withLink(`${base}jobs/${job}/log?attempt=${attempt}&follow=0${more}`);
}
