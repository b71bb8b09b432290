/** Shows matches by ranges of the page's registry, which all panes share: no row is touched. */

export class Highlights {
  constructor() {
    /** Those of this pane. @type {Map<string, Range[]>} */
    this.ranges = new Map();
  }

  /** @param {import("./view.js").View} view @param {ReturnType<typeof import("./finder.js").finder>} finder */
  show(view, finder) {
    const { highlights } = /** @type {any} */ (CSS);
    if (!highlights) return;
    this.clear();
    if (!finder.active) return;
    const current = finder.current();
    /** @param {string} name @param {Range[]} ranges */
    const add = (name, ranges) => {
      if (!highlights.has(name)) highlights.set(name, new /** @type {any} */ (globalThis).Highlight());
      for (const range of ranges) highlights.get(name).add(range);
      this.ranges.set(name, ranges);
    };
    add("tailer-hit", view.rangesOf((row) => finder.partsOf(row)));
    if (current) add("tailer-current", view.rangesOf((row) => (row.n === current.line ? [current.part] : [])));
  }

  clear() {
    const { highlights } = /** @type {any} */ (CSS);
    for (const [name, ranges] of this.ranges) for (const range of ranges) highlights.get(name)?.delete(range);
    this.ranges.clear();
  }
}
