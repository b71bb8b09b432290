/** Makes an element of a row: text nodes, spans and links, never markup. */

import { paint } from "./colours.js";
import { h } from "./dom.js";
import { fileRefs, pieces } from "./links.js";
import { jsonOf } from "./marks.js";
import {
  DEBUG, ERROR, FOREIGN, GROUP_START, HOLE, TRACEBACK, TRACEBACK_START, WARNING,
} from "./flags.js";
import * as words from "./words.js";

/** What is shown of a longer line until it is asked for. */
export const LONG = 10_000;

const CLASSES = /** @type {const} */ ([
  [ERROR, "error"],
  [WARNING, "warning"],
  [DEBUG, "debug"],
  [TRACEBACK, "tb"],
  [FOREIGN, "foreign"],
  [TRACEBACK_START, "tbfirst"],
  [GROUP_START, "group"],
  [HOLE, "hole"],
]);
/** Bidi controls can make text look like another text (CVE-2021-42574): they are shown by name. */
const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const SPECIAL = /:\/\/|File "|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;

/**
 * @typedef {import("./store.js").Line} Line
 *
 * @typedef {object} Look  How rows are shown.
 * @property {"off" | "abs" | "rel" | "delta"} time
 * @property {number} since  What "rel" counts from, ms since 1970.
 */

const plain = document.createElement("div");
plain.className = "r";
const number = document.createElement("a");
number.className = "n";
number.tabIndex = -1;
number.setAttribute("aria-hidden", "true");
plain.append(number, "");

/**
 * @param {Line} row
 * @param {Look} look
 * @param {Line | undefined} previous
 * @param {import("./store.js").Store} store
 * @returns {HTMLElement}
 */
export function rowElement(row, look, previous, store) {
  const element = /** @type {HTMLElement} */ (plain.cloneNode(true));
  const anchor = /** @type {HTMLAnchorElement} */ (element.firstChild);
  anchor.dataset.n = String(row.n);
  anchor.setAttribute("href", `#L${row.n}`);
  const flags = row.flags ?? 0;
  if (flags || row.err) element.className = className(row, flags);
  if (row.tag) anchor.after(tagElement(row.tag));
  if (look.time !== "off") anchor.after(h("span.t", { "data-t": timeOf(row, look, previous) }));
  const text = /** @type {Text} */ (element.lastChild);
  if (!row.runs && row.text.length <= LONG && !SPECIAL.test(row.text)) text.data = row.text;
  else {
    text.remove();
    long(element, row);
  }
  if (flags & GROUP_START) groupStart(element, row, store, text);
  const count = store.foldRepeats ? store.repeats.get(row) : undefined;
  if (count) element.append(h("span.times", { "data-t": `× ${words.count(count)}`, title: `${count} times the same` }));
  const first = row.text[0];
  if (!row.tag && (first === "{" || first === "[") && jsonOf(row.text) !== null) {
    anchor.after(h("button.json", { type: "button", "aria-label": "Show as a tree", "aria-expanded": "false" }));
  }
  return element;
}

/** @param {import("./types.js").Tag} tag */
function tagElement({ short, name, title, href, colour }) {
  const inner = [h("span.id", { "data-t": short }), name ? h("span.call", { "data-t": name }) : null];
  return h(`a.tag.c${colour}`, { href, title, tabIndex: -1, "aria-label": title }, ...inner);
}

/** @param {Line} row @param {number} flags */
function className(row, flags) {
  let name = row.err ? "r err" : "r";
  for (const [flag, word] of CLASSES) if (flags & flag) name += ` ${word}`;
  return name;
}

/** @param {Line} row @param {Look} look @param {Line | undefined} previous */
function timeOf(row, look, previous) {
  if (look.time === "abs") return words.clock(row.time);
  const from = look.time === "rel" ? look.since : previous?.time ?? row.time;
  return words.relative(row.time, from);
}

/** @param {HTMLElement} element @param {Line} row @param {import("./store.js").Store} store @param {Text} text */
function groupStart(element, row, store, text) {
  const group = store.groups.get(row.group ?? 0);
  if (!group) return;
  if (text.isConnected || text.parentNode) {
    // The mark itself stays part of the text, for those who copy or search it.
    const mark = text.data.lastIndexOf(group.title);
    if (mark > 0) {
      text.before(h("span.quiet", {}, text.data.slice(0, mark)));
      text.data = text.data.slice(mark);
    }
  }
  const folded = String(!group.collapsed);
  const took = group.ended ? words.duration((group.ended - group.started) / 1000) : "";
  element.children[0].after(
    h("button.fold", { type: "button", "aria-expanded": folded, "aria-label": `Group ${group.title}` }),
  );
  if (took) element.append(h("span.took", { "data-t": took }));
  if (group.failed) element.classList.add("failed");
}

/** @param {HTMLElement} element @param {Line} row */
function long(element, row) {
  if (row.text.length <= LONG) return write(element, row, row.text.length);
  write(element, row, LONG);
  const rest = row.text.length - LONG;
  element.append(
    h("button.more", {
      type: "button",
      "data-t": `show ${words.bytes(rest)} more`,
      "aria-label": `Show ${words.bytes(rest)} more of this line`,
      onclick: () => {
        for (const node of [...element.childNodes]) if (!(node instanceof Element && node.matches(".n,.t,.tag"))) node.remove();
        write(element, row, row.text.length);
      },
    }),
  );
}

/**
 * Append the first `length` units of a row's text, with its styles and links.
 *
 * @param {HTMLElement} element @param {Line} row @param {number} length
 */
function write(element, row, length) {
  const text = length < row.text.length ? row.text.slice(0, length) : row.text;
  const styled = styler(row, text);
  let at = 0;
  const found = SPECIAL.test(text) ? [...pieces(text), ...refs(text)].sort((a, b) => a.start - b.start) : [];
  for (const piece of found) {
    if (piece.start < at) continue;
    styled(element, at, piece.start);
    const inside = "href" in piece ? link(/** @type {string} */ (piece.href)) : h("span.file");
    styled(inside, piece.start, piece.end);
    element.append(inside);
    at = piece.end;
  }
  styled(element, at, text.length);
}

/** @param {string} text @returns {{start: number, end: number}[]} */
function refs(text) {
  return fileRefs(text);
}

/** @param {string} href */
function link(href) {
  return h("a.link", { href, target: "_blank", rel: "noopener noreferrer nofollow" });
}

/**
 * @param {Line} row @param {string} text
 * @returns {(parent: Element, from: number, to: number) => void}  Appends a part; to be called in order.
 */
function styler(row, text) {
  const runs = row.runs ?? [{ length: text.length, style: null }];
  let index = 0;
  let start = 0;
  return (parent, from, to) => {
    while (from < to) {
      while (index < runs.length - 1 && start + runs[index].length <= from) start += runs[index++].length;
      const end = Math.min(to, start + runs[index].length);
      const style = runs[index].style;
      let target = parent;
      if (style && (style.cls || style.fg || style.bg || style.href)) {
        target = style.href && !parent.matches("a") ? link(style.href) : h("span");
        if (style.cls) target.className = `${target.className} ${style.cls}`.trim();
        const { color, backgroundColor } = paint(style);
        if (color) /** @type {HTMLElement} */ (target).style.color = color;
        if (backgroundColor) /** @type {HTMLElement} */ (target).style.backgroundColor = backgroundColor;
        parent.append(target);
      }
      visible(target, text.slice(from, end));
      if (end <= from) return;
      from = end;
    }
  };
}

/** @param {Element} parent @param {string} text */
function visible(parent, text) {
  let at = 0;
  for (const match of text.matchAll(BIDI)) {
    const name = `U+${match[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    parent.append(text.slice(at, match.index), h("span.bidi", { "data-t": name }, match[0]));
    at = match.index + 1;
  }
  if (at < text.length) parent.append(text.slice(at));
}

/**
 * @param {HTMLElement} element  A row's.
 * @param {number} from @param {number} to  In UTF-16 units of the row's text.
 * @returns {Range | null}
 */
export function rangeIn(element, from, to) {
  const range = document.createRange();
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let at = 0;
  let begun = false;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (node.parentElement?.closest(".tree")) continue;
    const length = /** @type {Text} */ (node).length;
    if (!begun && from < at + length) {
      range.setStart(node, from - at);
      begun = true;
    }
    if (begun && to <= at + length) {
      range.setEnd(node, to - at);
      return range;
    }
    at += length;
  }
  return null;
}

/**
 * @param {HTMLElement} element  A row's.
 * @param {Node} node @param {number} offset  A place in it, as a Range has it.
 * @returns {number}  How much of the row's text is before that.
 */
export function offsetIn(element, node, offset) {
  const range = document.createRange();
  range.setStart(element, 0);
  range.setEnd(node, offset);
  return range.toString().length;
}
