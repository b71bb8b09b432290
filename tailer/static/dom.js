/** Builds elements: never from strings, so that what a job prints cannot become markup. */

/**
 * @param {string} tag  With class names behind dots: "div.row.err".
 * @param {Record<string, unknown>} [props]  Properties; "data-…" and "aria-…" and role as attributes, "on…" as listeners.
 * @param {...(Node | string | null)} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), /** @type {EventListener} */ (value));
    else if (key.includes("-") || key === "role" || key === "for" || key === "part") {
      element.setAttribute(key, String(value));
    } else if (key in element) /** @type {any} */ (element)[key] = value;
    else throw new TypeError(`<${name}> has no property ${key}`); // "tabindex" would be set, and do nothing
  }
  element.append(.../** @type {(Node | string)[]} */ (children.filter((child) => child !== null)));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} path  The "d" of a 16 by 16 drawing.
 * @returns {SVGElement}
 */
export function icon(path) {
  const svg = /** @type {SVGElement} */ (document.createElementNS(SVG, "svg"));
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const drawing = document.createElementNS(SVG, "path");
  drawing.setAttribute("d", path);
  svg.append(drawing);
  return svg;
}

/**
 * Set text only where it differs: a write of the same text would still cost a layout.
 *
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
