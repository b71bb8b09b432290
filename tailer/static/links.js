/** Finds what leads elsewhere in a line of text: addresses of the web, and places in files. */

/** Longer ones are data, not addresses. */
const LONGEST = 8192;
/** What no address goes beyond: space, quotes, controls (also those that turn text around), and full-width stops. */
const STOP = /[\s<>"`\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\u3001\u3002\uff0c]/;
const HOST = /[A-Za-z0-9[\u00a1-\uffff]/;
const TRAILING = ".,;:!?'*_([{";
const OPENING = "([{";
const CLOSING = ")]}";
const FILE = /\bFile "([^"]{1,1000})", line (\d{1,9})/g;

/**
 * @typedef {object} Piece  Part of a text, in UTF-16 units.
 * @property {number} start
 * @property {number} end
 */

/** @param {string} text @returns {(Piece & {href: string})[]}  Its URLs of http and https, from left to right. */
export function pieces(text) {
  const found = [];
  // Each character is looked at once: a line may be as long as it likes.
  for (let sign = text.indexOf("://"); sign >= 0; ) {
    const start = schemeBefore(text, sign);
    const host = sign + 3;
    let stop = host;
    if (start >= 0 && HOST.test(text.charAt(host))) {
      stop = stopOf(text, start, host);
      const end = withoutTrailing(text, host, stop);
      const href = text.slice(start, end);
      if (end > host && href.length <= LONGEST && URL.canParse(href)) found.push({ start, end, href });
    }
    sign = text.indexOf("://", stop);
  }
  return found;
}

/** @param {string} text @param {number} sign @returns {number}  Where "http" or "https" begins; -1: it does not. */
function schemeBefore(text, sign) {
  const match = /(?:^|[^a-z0-9])(https?)$/i.exec(text.slice(Math.max(0, sign - 6), sign));
  return match ? sign - match[1].length : -1;
}

/**
 * @param {string} text @param {number} start @param {number} from
 * @returns {number}  Where it ends at the latest: also at a quote or a bracket that was opened before it.
 */
function stopOf(text, start, from) {
  const quote = text[start - 1] === "'" ? "'" : "";
  let open = "";
  for (let at = from; at < text.length; at++) {
    const character = text[at];
    if (character === quote || STOP.test(character)) return at;
    const opening = OPENING.indexOf(character);
    // To remember more open brackets would cost, and no address has them.
    if (opening >= 0 && open.length < 64) open += CLOSING[opening];
    if (!CLOSING.includes(character)) continue;
    if (open.at(-1) !== character) return at;
    open = open.slice(0, -1);
  }
  return text.length;
}

/** @param {string} text @param {number} from @param {number} end  @returns {number}  Its end without punctuation. */
function withoutTrailing(text, from, end) {
  while (end > from && TRAILING.includes(text[end - 1])) end -= 1;
  return end;
}

/** @param {string} text @returns {(Piece & {file: string, line: number})[]}  Places as Python names them. */
export function fileRefs(text) {
  if (!text.includes('File "')) return [];
  return [...text.matchAll(FILE)].map((match) => ({
    start: match.index,
    end: match.index + match[0].length,
    file: match[1],
    line: Number(match[2]),
  }));
}
