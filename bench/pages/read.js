/** What the peers' pages share: they read the log as plain text, which is the quickest way to have it. */

/** What the benchmark looks at: lines shown so far, and when all was. */
const peer = (window.peer = { ready: false, shown: 0, done: 0 });

/** @param {(text: string) => unknown} show  Gets the log piece by piece; the next one when its promise is kept. */
export async function read(show) {
  const job = new URLSearchParams(location.search).get("job");
  peer.ready = true; // Firefox tells of the answer only when the first of its body is there.
  const response = await fetch(`/jobs/${job}/log?format=text`, { cache: "no-store" });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) await show(piece.value);
}

/** @param {string} text @returns {number}  How many lines end in it. */
export function lines(text) {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++;
  return count;
}

/** @returns {Promise<number>}  The time when what was done before is in the picture. */
export function frame() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
  });
}
