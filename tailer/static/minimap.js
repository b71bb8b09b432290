/** A strip beside a log: where in all of it the errors, the matches, and what is in sight are. */

/**
 * @param {import("./log.js").Log} log
 * @param {import("./view.js").View} view
 * @param {() => Iterable<number>} hitLines
 * @param {(line: number) => void} onChoose
 */
export function minimap(log, view, hitLines, onChoose) {
  const canvas = document.createElement("canvas");
  canvas.className = "minimap";
  canvas.setAttribute("aria-hidden", "true");
  canvas.addEventListener("click", (event) => {
    onChoose(Math.max(1, Math.ceil((event.offsetY / canvas.clientHeight) * log.total)));
  });
  let planned = 0;

  function draw() {
    planned = 0;
    const { clientWidth: width, clientHeight: height } = canvas;
    const scale = devicePixelRatio || 1;
    if (!width || !height) return;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    const total = log.total;
    if (!context || !total) return;
    // Custom properties are not computed where they hold light-dark(); these are.
    const style = getComputedStyle(canvas);
    /** @param {Iterable<number>} lines @param {string} colour */
    const marks = (lines, colour) => {
      context.fillStyle = colour;
      let last = -2;
      for (const line of lines) {
        const y = Math.floor(((line - 1) / total) * canvas.height);
        if (y > last) context.fillRect(0, y, canvas.width, 2 * scale);
        last = y;
      }
    };
    const first = view.firstVisible();
    if (first) {
      const rows = view.scroller.clientHeight / view.rowHeight;
      context.fillStyle = style.outlineColor;
      const at = ((first - 1) / total) * canvas.height;
      context.fillRect(0, at, canvas.width, Math.max(4 * scale, (rows / total) * canvas.height));
    }
    marks(hitLines(), style.caretColor);
    marks(log.store.errors, style.color);
  }

  return {
    element: canvas,
    update: () => {
      planned ||= window.setTimeout(draw, 200);
    },
    stop: () => clearTimeout(planned),
  };
}
