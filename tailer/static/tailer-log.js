/**
 * `<tailer-log job="…">`: the pane, for Tailer's own page and for anybody else's.
 *
 * Attributes: `job`; `attempt`, `line` ("120" or "120-184"); `base`, where Tailer is if this module is not served from
 * there; `theme` ("light", "dark"; otherwise the page's). The element's height is the page's affair.
 *
 * Events, which bubble: `tailer-status` with `{job, state, title, unseen}`, and `tailer-change` when what is shown has
 * changed in a way that one may want in a URL.
 */

import { sheet } from "./colours.js";
import { h } from "./dom.js";
import { Pane } from "./pane.js";

/** Two levels up from /assets/DIGEST/tailer-log.js. */
const BASE = new URL("../../", import.meta.url).href;

export class TailerLog extends HTMLElement {
  static observedAttributes = ["job", "theme"];

  constructor() {
    super();
    this.attachShadow({ mode: "open" });
    /** @type {Pane | null} */
    this.pane = null;
    /** What is to be shown first. @type {Partial<import("./url.js").State>} */
    this.wanted = {};
    /** Keys of the page around it, for the list of keys. @type {import("./keys.js").Key[]} */
    this.pageKeys = [];
  }

  get job() {
    return this.getAttribute("job") ?? "";
  }

  connectedCallback() {
    const root = /** @type {ShadowRoot} */ (this.shadowRoot);
    root.adoptedStyleSheets = [sheet()];
    const pane = new Pane(this, this.getAttribute("base") ?? BASE, this.job);
    const style = h("link", { rel: "stylesheet", href: new URL("./pane.css", import.meta.url).href });
    style.addEventListener("load", () => pane.view.measure());
    root.replaceChildren(style, pane.element);
    this.pane = pane;
    pane.apply(this.wanted);
  }

  disconnectedCallback() {
    this.pane?.close();
    this.pane = null;
  }

  /** @param {string} name */
  attributeChangedCallback(name) {
    if (!this.pane) return;
    if (name === "theme") return this.pane.applyLook();
    this.disconnectedCallback();
    this.connectedCallback();
  }
}

if (!customElements.get("tailer-log")) customElements.define("tailer-log", TailerLog);
