/**
 * The colours of terminals, made readable: every foreground has a contrast of 4.5 to what is behind it (WCAG 2.2,
 * success criterion 1.4.3), in the light theme and in the dark one.
 */

/** @type {CSSStyleSheet | undefined} */
let made;

/** @returns {CSSStyleSheet}  The rules for all of them, which the panes of a page share. */
export function sheet() {
  if (!made) {
    made = new CSSStyleSheet();
    made.replaceSync(rules());
  }
  return made;
}

/** @typedef {[number, number, number]} Colour  Red, green, blue, 0 to 255. */

export const CONTRAST = 4.5;
/** Backgrounds of the log, as in pane.css; those of marked rows are less than a step away. */
export const PAPER = { light: /** @type {Colour} */ ([255, 255, 255]), dark: /** @type {Colour} */ ([17, 20, 26]) };

/** The first 16, which every terminal chooses for itself. */
const LIGHT = ["1b1f24", "b3131b", "116329", "7a4b00", "0a53be", "7d35b3", "0d6470", "57606a",
  "4b535d", "c4141d", "0f6e2b", "855200", "0a5cd6", "8a3cc4", "0b6d7a", "24292f"];
const DARK = ["8b949e", "ff7b72", "57c568", "dca832", "6cb0ff", "d09bff", "3fc4cf", "c9d1d9",
  "9aa4ae", "ff958d", "74d984", "ecbf5a", "8cc2ff", "dcb3ff", "5fd7e1", "f5f7fa"];

/** @param {string} hex  "rrggbb", perhaps behind "#". @returns {Colour} */
export function parse(hex) {
  const value = Number.parseInt(hex.replace("#", ""), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** @param {Colour} colour */
export function hex(colour) {
  return `#${colour.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
}

/** @param {number} n  16 to 255: xterm's cube of 6 by 6 by 6, and its 24 greys. @returns {Colour} */
export function indexed(n) {
  if (n >= 232) {
    const grey = 8 + (n - 232) * 10;
    return [grey, grey, grey];
  }
  /** @param {number} step */
  const level = (step) => (step ? 55 + step * 40 : 0);
  const cube = n - 16;
  return [level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6)];
}

/** @param {number} n  0 to 255. @param {"light" | "dark"} theme @returns {Colour} */
export function paletteColour(n, theme) {
  return n < 16 ? parse((theme === "light" ? LIGHT : DARK)[n]) : indexed(n);
}

/** @param {Colour} colour  @returns {number}  Relative luminance (WCAG 2.2). */
export function luminance(colour) {
  const [r, g, b] = colour.map((part) => {
    const s = part / 255;
    return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** @param {Colour} a @param {Colour} b @returns {number}  1 to 21. */
export function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

/**
 * @param {Colour} colour
 * @param {Colour} behind
 * @returns {Colour}  The colour, or as little lighter or darker as it takes to be read.
 */
export function readable(colour, behind) {
  const towards = /** @type {Colour} */ (luminance(behind) > 0.18 ? [0, 0, 0] : [255, 255, 255]);
  for (let part = 0; part < 1; part += 0.04) {
    const mixed = /** @type {Colour} */ (colour.map((value, i) => Math.round(value + (towards[i] - value) * part)));
    if (contrast(mixed, behind) >= CONTRAST) return mixed;
  }
  return towards;
}

/** @param {Colour} behind @returns {Colour}  Black or white, whichever is easier to read on it. */
export function ink(behind) {
  return luminance(behind) > 0.18 ? [0, 0, 0] : [255, 255, 255];
}

/** @param {(theme: "light" | "dark") => Colour} of @returns {string} */
function both(of) {
  const [light, dark] = [hex(of("light")), hex(of("dark"))];
  return light === dark ? light : `light-dark(${light}, ${dark})`;
}

/** @returns {string}  Rules for the classes f0 to f255 and g0 to g255. */
export function rules() {
  const all = [];
  for (let n = 0; n < 256; n++) {
    const front = both((theme) => readable(paletteColour(n, theme), PAPER[theme]));
    // On its own colour, text that has none is black or white.
    const behind = n < 16 ? (/** @type {"light" | "dark"} */ theme) => ground(n, theme) : () => indexed(n);
    all.push(`.g${n}{background-color:${both(behind)};color:${both((theme) => ink(behind(theme)))}}`);
    all.push(`.f${n}{color:${front}}`);
  }
  return all.join("\n");
}

/** @param {number} n  0 to 15. @param {"light" | "dark"} theme @returns {Colour}  As a background. */
function ground(n, theme) {
  if (n === 0) return theme === "light" ? [27, 31, 36] : [0, 0, 0];
  return paletteColour(n, theme);
}

/** @type {Map<import("./types.js").Style, {color: string, backgroundColor: string}>} */
const painted = new Map();

/**
 * What the classes of a style cannot say: true colours, and a foreground on a background.
 *
 * @param {import("./types.js").Style} style
 * @returns {{color: string, backgroundColor: string}}  "": nothing to be set.
 */
export function paint(style) {
  let found = painted.get(style);
  if (!found) {
    if (painted.size > 10_000) painted.clear();
    painted.set(style, (found = mix(style)));
  }
  return found;
}

/** @param {import("./types.js").Style} style */
function mix(style) {
  const front = /(?:^| )f(\d+)/.exec(style.cls);
  const back = /(?:^| )g(\d+)/.exec(style.cls);
  const hasBack = Boolean(style.bg || back);
  if (!style.fg && !style.bg && !(front && back)) return { color: "", backgroundColor: "" };
  /** @param {"light" | "dark"} theme */
  const behind = (theme) => {
    if (style.bg) return parse(style.bg);
    const n = Number(back?.[1]);
    return n < 16 ? ground(n, theme) : indexed(n);
  };
  const color = both((theme) => {
    const under = hasBack ? behind(theme) : PAPER[theme];
    if (style.fg) return readable(parse(style.fg), under);
    return front ? readable(paletteColour(Number(front[1]), theme), under) : ink(under);
  });
  return { color, backgroundColor: style.bg };
}
