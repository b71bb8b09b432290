/** What is selected in a log, as text. */

import { offsetIn } from "./rows.js";

/** @typedef {import("./view.js").View} View */

/**
 * What is selected, as it was printed: the browser's own copy leaves out rows that it has skipped.
 *
 * @param {View} view
 * @param {StaticRange | Range} selection
 * @returns {string | null}  Null if it is not a selection of rows.
 */
export function textOf(view, selection) {
  const from = place(view, selection.startContainer, selection.startOffset);
  const to = place(view, selection.endContainer, selection.endOffset);
  if (!from || !to) return null;
  const { blocks } = view.store;
  const texts = [];
  for (let b = blocks.indexOf(from.block); b <= blocks.indexOf(to.block); b++) {
    const { rows } = blocks[b];
    const first = blocks[b] === from.block ? from.index : 0;
    const last = blocks[b] === to.block ? to.index : rows.length - 1;
    for (let i = first; i <= last; i++) {
      if (!view.store.shows(rows[i])) continue;
      const end = blocks[b] === to.block && i === to.index ? to.offset : rows[i].text.length;
      const start = blocks[b] === from.block && i === from.index ? from.offset : 0;
      texts.push(rows[i].text.slice(start, end));
    }
  }
  return texts.join("\n");
}

/** @param {View} view @param {Node} node @param {number} offset */
function place(view, node, offset) {
  const around = node instanceof Element ? node : node.parentElement;
  const row = /** @type {HTMLElement | null} */ (around?.closest(".r") ?? null);
  const box = row?.parentElement && view.byElement.get(row.parentElement);
  if (row && box) {
    const index = Array.prototype.indexOf.call(box.element.children, row);
    return { block: box.block, index, offset: offsetIn(row, node, offset) };
  }
  return outerPlace(view, /** @type {Element} */ (around), offset);
}

/** @param {View} view @param {Element} element @param {number} offset  A place between rows or blocks, or around all of them. */
function outerPlace(view, element, offset) {
  const box = view.byElement.get(element);
  if (box) return { block: box.block, index: Math.min(offset, box.block.rows.length - 1), offset: 0 };
  const { blocks } = view.store;
  if (!blocks.length || !(element === view.lines || element.contains(view.lines))) return null;
  const block = element === view.lines ? blocks[Math.min(offset, blocks.length - 1)] : offset ? blocks.at(-1) : blocks[0];
  if (!block) return null;
  const past = element === view.lines ? offset >= blocks.length : offset > 0;
  const index = past ? block.rows.length - 1 : 0;
  return { block, index, offset: past ? block.rows[index].text.length : 0 };
}
