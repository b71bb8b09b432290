/** What a pane explains or asks in a window of its own. */

import { h } from "./dom.js";

/** @typedef {import("./keys.js").Key} Key */

/** @param {string} title @param {...Node} content @returns {HTMLDialogElement}  Not shown yet. */
function dialog(title, ...content) {
  const close = h("button.icon", { type: "button", "aria-label": "Close", onclick: () => element.close() }, "✕");
  const element = /** @type {HTMLDialogElement} */ (
    h("dialog", { "aria-label": title }, h("div.dialog-head", {}, h("b", {}, title), close), ...content)
  );
  return element;
}

/** @param {Key[]} keys @returns {HTMLDialogElement} */
export function keysDialog(keys) {
  const rows = keys.map(([key, , help]) => h("div", {}, h("kbd", {}, key === "Escape" ? "Esc" : key), h("span", {}, help)));
  return dialog("Keys", h("div.keys", {}, ...rows));
}

/**
 * @param {(line: number) => void} onLine
 * @returns {{element: HTMLDialogElement, ask: (total: number) => void}}
 */
export function lineDialog(onLine) {
  const field = /** @type {HTMLInputElement} */ (
    h("input", { type: "text", inputMode: "numeric", autocomplete: "off", "aria-label": "Line", onkeydown: key })
  );
  const range = h("span.count");
  const element = dialog("Go to a line", h("div.ask", {}, field, range));

  /** @param {KeyboardEvent} event */
  function key(event) {
    if (event.key !== "Enter") return;
    event.preventDefault();
    const line = Number(field.value.replaceAll(/[\s,.]/g, ""));
    field.setAttribute("aria-invalid", String(!(line >= 1)));
    if (!(line >= 1)) return;
    element.close();
    onLine(Math.floor(line));
  }

  return {
    element,
    ask(total) {
      field.value = "";
      field.setAttribute("aria-invalid", "false");
      range.textContent = `1 to ${total.toLocaleString("en")}`;
      element.showModal();
      field.focus();
    },
  };
}
