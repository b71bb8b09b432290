/**
 * What SGR sequences and OSC 8 make text look like.
 *
 * @typedef {import("./types.js").Style} Style
 *
 * @typedef {object} Pen  What they have set. Never changed, only replaced.
 * @property {number} flags  Bits in the order of FLAGS.
 * @property {number | string} fg  0 to 255, "#rrggbb", or "": the default.
 * @property {number | string} bg
 * @property {string} href
 * @property {Style} style
 * @property {Map<string, Pen>} [next]  Where short sequences lead from here: jobs use few, again and again.
 */

/** Most styles and pens remembered. */
const MAX_LOOKS = 65_536;
const MAX_PENS = 4096;

/** Bold, dim, italic, underline, strike; and inverse, which is resolved. */
const FLAGS = "bdius";
const INVERSE = 1 << FLAGS.length;
/** What SGR codes do: bits that they set, bits that they clear. @type {Record<number, [number, number]>} */
const SWITCHES = {
  1: [1, 0],
  2: [2, 0],
  3: [4, 0],
  4: [8, 0],
  7: [INVERSE, 0],
  9: [16, 0],
  21: [8, 0],
  22: [0, 3],
  23: [0, 4],
  24: [0, 8],
  27: [0, INVERSE],
  29: [0, 16],
};

/** @type {Style} */
export const PLAIN = { cls: "", fg: "", bg: "", href: "" };
/** @type {Map<string, Style>} */
const looks = new Map([["|||", PLAIN]]);

/** @param {Omit<Pen, "style">} pen @returns {Style} */
function look(pen) {
  const inverse = pen.flags & INVERSE;
  const [fg, bg] = inverse ? [pen.bg, pen.fg] : [pen.fg, pen.bg];
  const names = [...FLAGS].filter((_, bit) => (pen.flags >> bit) & 1);
  // With one colour given, the other one is the default of the other side, which has no name but "v".
  if (inverse && (fg === "" || bg === "")) names.push("v");
  if (typeof fg === "number") names.push(`f${fg}`);
  if (typeof bg === "number") names.push(`g${bg}`);
  const [trueFg, trueBg] = [fg, bg].map((value) => (typeof value === "string" ? value : ""));
  const style = { cls: names.join(" "), fg: trueFg, bg: trueBg, href: pen.href };
  const key = Object.values(style).join("|");
  const found = looks.get(key);
  if (found) return found;
  // Only a log made for it has so many. From then on an older look is another object.
  if (looks.size >= MAX_LOOKS) looks.clear();
  looks.set("|||", PLAIN).set(key, style);
  return style;
}

/** @type {Pen} */
export const PLAIN_PEN = { flags: 0, fg: "", bg: "", href: "", style: PLAIN };
/** @type {Map<string, Pen>} */
const pens = new Map();

/** @param {Pen} pen  Its style is not known yet. @returns {Pen} */
export function intern({ flags, fg, bg, href }) {
  const key = `${flags}|${fg}|${bg}|${href}`;
  const found = pens.get(key);
  if (found) return found;
  if (pens.size >= MAX_PENS) {
    pens.clear();
    PLAIN_PEN.next = undefined;
  }
  const style = look({ flags, fg, bg, href });
  const pen = style === PLAIN ? PLAIN_PEN : { flags, fg, bg, href, style };
  pens.set(key, pen);
  return pen;
}

/** @param {string[]} values @param {number} count @returns {number | string | null}  null: there is no such colour. */
function colour(values, count) {
  const numbers = values.map(Number);
  if (numbers.length < count || numbers.some((value) => !(value <= 255))) return null;
  return count === 1 ? numbers[0] : `#${numbers.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * @param {Pen} pen  Gets the colour.
 * @param {string[]} sub  Such as ["38", "5", "208"] or, with a colour space, ["38", "2", "", "1", "2", "3"].
 */
function setColour(pen, sub) {
  const rgb = sub[1] === "2";
  if (!rgb && sub[1] !== "5") return;
  const from = rgb && sub.length >= 6 ? 3 : 2;
  const value = colour(sub.slice(from, from + (rgb ? 3 : 1)), rgb ? 3 : 1);
  if (value === null) return;
  if (sub[0] === "38") pen.fg = value;
  else if (sub[0] === "48") pen.bg = value;
}

/** @param {Pen} pen @param {string} params  Such as "1;38;5;208" or "4:3". @returns {Pen} */
function applySgr(pen, params) {
  const next = { ...pen };
  const parts = params.split(";");
  for (let i = 0; i < parts.length; i++) {
    const sub = parts[i].split(":");
    const code = Number(sub[0]);
    const colours = code >= 90 ? code - 60 : code;
    if (code === 38 || code === 48 || code === 58) {
      const length = parts[i + 1] === "2" ? 5 : parts[i + 1] === "5" ? 3 : 1;
      setColour(next, sub.length > 1 ? sub : parts.slice(i, i + length));
      if (sub.length === 1) i += length - 1;
    } else if (code === 0) Object.assign(next, { flags: 0, fg: "", bg: "" });
    else if (code === 4 && sub[1] === "0") next.flags &= ~8;
    else if (SWITCHES[code]) next.flags = (next.flags | SWITCHES[code][0]) & ~SWITCHES[code][1];
    else if (colours >= 30 && colours <= 37) next.fg = code < 90 ? code - 30 : code - 82;
    else if (colours >= 40 && colours <= 47) next.bg = code < 90 ? code - 40 : code - 92;
    else if (code === 39) next.fg = "";
    else if (code === 49) next.bg = "";
  }
  return next;
}

/** @param {Pen} pen @param {string} params @returns {Pen} */
export function sgr(pen, params) {
  const found = pen.next?.get(params);
  if (found) return found;
  const next = intern(applySgr(pen, params));
  // Longer ones are rarely used again, and would keep the text alive that they are cut out of.
  if (params.length <= 12) {
    pen.next ??= new Map();
    if (pen.next.size < 100) pen.next.set(params, next);
  }
  return next;
}
