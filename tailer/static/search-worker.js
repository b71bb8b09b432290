/**
 * The worker of searcher.js: searches texts beside the page, which an expression without end could otherwise stop.
 *
 * It says `{ready}` once it runs. Asked `{id, re, texts, ns}`, it answers `{id, hits}`. Asked `{id, re, url, first}`,
 * it reads a log there, and tells `{id, hits, scanned}` every 100 ms, also when nothing came: silence means that it is
 * stuck. In the end it says `{id, done, scanned}` or `{id, error}`. `{id, cancel}` ends a reading.
 */

import { find } from "./search.js";

const TELL_MS = 100;
/** Lines between two looks at the clock. */
const STEP = 256;
/** What text logs say between a job's lines. A hole is no line of the job's: its numbers go on behind it. */
const OWN = "[tailer] ";
const HOLE = /^\[tailer\] \d+ bytes are missing here: /;

/** @typedef {import("./search.js").Hit} Hit */

/** @type {Map<number, AbortController>} */
const readings = new Map();

/** @param {string[]} texts @param {number[]} ns @param {RegExp} pattern @returns {Hit[]} */
function search(texts, ns, pattern) {
  const hits = find(texts, pattern);
  for (const hit of hits) hit[0] = ns[hit[0]];
  return hits;
}

/** @param {string} line @returns {string}  Roughly what a terminal would leave of it: what follows the last CR. */
function shown(line) {
  const text = line.endsWith("\r") ? line.slice(0, -1) : line;
  return text.slice(text.lastIndexOf("\r") + 1);
}

/**
 * @param {ReadableStream<Uint8Array>} stream
 * @yields {string[]}  The lines that each piece completes; at the end, what is left.
 */
async function* linesOf(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let rest = "";
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    // Only new text is looked through: a line of 10 MB comes in many pieces.
    const lines = decoder.decode(read.value, { stream: true }).split("\n");
    lines[0] = rest + lines[0];
    rest = /** @type {string} */ (lines.pop());
    if (lines.length) yield lines;
  }
  rest += decoder.decode();
  if (rest) yield [rest];
}

/** @param {number} id @param {RegExp} pattern @param {string} url @param {number} first @param {AbortSignal} signal */
async function scan(id, pattern, url, first, signal) {
  /** @type {Hit[]} */
  let hits = [];
  let next = first;
  let told = performance.now();
  const tell = () => {
    postMessage({ id, hits, scanned: next - 1 });
    hits = [];
    told = performance.now();
  };
  const timer = setInterval(tell, TELL_MS);
  try {
    const response = await fetch(url, { signal, headers: { Accept: "text/plain" }, cache: "no-store" });
    if (!response.ok || !response.body) throw new Error(`the server answers ${response.status}`);
    for await (const lines of linesOf(response.body)) {
      for (let i = 0; i < lines.length; i += STEP) {
        const [texts, ns] = numbered(lines.slice(i, i + STEP));
        for (const hit of search(texts, ns, pattern)) hits.push(hit);
        if (performance.now() - told < TELL_MS) continue;
        tell();
        // A turn for messages: else a fast stream would never let a `cancel` in.
        await new Promise((resolve) => setTimeout(resolve, 0));
        signal.throwIfAborted();
      }
    }
    if (hits.length) tell();
    postMessage({ id, done: true, scanned: next - 1 });
  } catch (error) {
    if (!signal.aborted) postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  } finally {
    clearInterval(timer);
    readings.delete(id);
  }

  /** @param {string[]} lines @returns {[texts: string[], ns: number[]]} */
  function numbered(lines) {
    const texts = [];
    const ns = [];
    for (const line of lines) {
      const own = line.startsWith(OWN);
      if (own && HOLE.test(line)) continue;
      texts.push(own ? "" : shown(line));
      ns.push(next++);
    }
    return [texts, ns];
  }
}

onmessage = ({ data: { id, re, texts, ns, url, first, cancel } }) => {
  if (cancel) return readings.get(id)?.abort();
  const pattern = new RegExp(re.source, re.flags);
  if (texts) return postMessage({ id, hits: search(texts, ns, pattern) });
  const reading = new AbortController();
  readings.set(id, reading);
  void scan(id, pattern, url, first, reading.signal);
};
postMessage({ ready: true });
