/** How many cells of a terminal characters take. */

/** Something that may take other than one cell, or two UTF-16 units. */
export const ODD =
  /[^ -\u02ff\u0370-\u0482\u2010-\u2027\u2030-\u205e\u2070-\u20cf\u2100-\u2319\u2400-\u25fc\u2800-\u28ff\ue000-\uf8ff]/;
const NO_CELL = /[\p{Mn}\p{Me}\u061c\u1160-\u11ff\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e0fff}]/u;
const TWO_CELLS = new RegExp(
  "[\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19" +
    "\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6" +
    "\u{16fe0}-\u{18dff}\u{1aff0}-\u{1b2ff}\u{1f200}-\u{1f265}\u{20000}-\u{3fffd}]" +
    // The letters of flags are one cell each.
    "|(?![\u{1f1e6}-\u{1f1ff}])\\p{Emoji_Presentation}",
  "u",
);
/** By code unit: 1 + cells, 0: not asked for yet. */
const known = new Uint8Array(65_536);

/** @param {number} code @returns {number} */
function measure(code) {
  const character = String.fromCodePoint(code);
  return NO_CELL.test(character) ? 0 : TWO_CELLS.test(character) ? 2 : 1;
}

/** @param {number} code  A code point. @returns {number}  How many cells it takes. */
function width(code) {
  if (code > 0xffff) return measure(code);
  if (!known[code]) known[code] = 1 + measure(code);
  return known[code] - 1;
}

/**
 * Pass cells of a text, and the marks that belong to the last of them.
 *
 * @param {string} text @param {number} index @param {number} cells
 * @returns {{index: number, left: number}}  left: how many cells it is short of, or, below 0, how many too far.
 */
export function skip(text, index, cells) {
  let left = cells;
  while (index < text.length) {
    const code = /** @type {number} */ (text.codePointAt(index));
    const its = width(code);
    if (left <= 0 && its) break;
    left -= its;
    index += code > 0xffff ? 2 : 1;
  }
  return { index, left };
}

/** @param {string} text @returns {number} */
export function cellsOf(text) {
  const most = 2 * text.length;
  return ODD.test(text) ? most - skip(text, 0, most).left : text.length;
}
