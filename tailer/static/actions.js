/** What the keys and buttons of a pane do, by the names that keys.js gives them. */

import { withLink } from "./access.js";
import { h } from "./dom.js";
import { logUrl } from "./load.js";

/** @typedef {import("./pane.js").Pane} Pane */
/** @typedef {import("./store.js").Line} Line */

const TIMES = /** @type {const} */ (["off", "abs", "rel", "delta"]);

/** @type {Record<string, (pane: Pane, row?: Line) => void>} */
export const ACTIONS = {
  find: (pane) => {
    pane.finder.open();
    pane.changed(false);
  },
  nextHit: (pane) => pane.finder.step(1),
  previousHit: (pane) => pane.finder.step(-1),
  filter: (pane) => pane.filter.open(),
  follow: (pane) => (pane.view.following ? pane.view.read() : end(pane)),
  top: (pane) => void pane.goTo(1),
  end,
  goTo: (pane) => pane.lineAsked.ask(pane.log.total),
  nextError: (pane) => error(pane, 1),
  previousError: (pane) => error(pane, -1),
  stderr: (pane) => {
    pane.filter.element.hidden = false;
    pane.filter.set({ stderr: !pane.filter.state.stderr });
    pane.changed(false);
  },
  wrap: (pane) => {
    pane.wrap = !pane.wrap;
    pane.applyLook();
    pane.view.redrawAll();
    pane.changed(false);
  },
  time: (pane) => {
    pane.time = TIMES[(TIMES.indexOf(pane.time) + 1) % TIMES.length];
    pane.applyLook();
    pane.view.redrawAll();
    pane.changed(false);
  },
  foldGroup: (pane, row) => fold(pane, row, null),
  unfoldGroup: (pane, row) => fold(pane, row, false),
  foldAll: (pane) => {
    const groups = [...pane.log.store.groups.values()];
    const collapsed = !groups.every((group) => group.collapsed);
    for (const group of groups) group.collapsed = collapsed;
    pane.view.redrawAll();
  },
  repeats: (pane) => {
    pane.log.store.foldRepeats = !pane.log.store.foldRepeats;
    pane.view.redrawAll();
  },
  selectAll: (pane) => {
    pane.view.read();
    getSelection()?.selectAllChildren(pane.view.lines);
  },
  copy: (pane) => void copy(pane, textOf(pane)),
  copyLink: (pane) => void copy(pane, linkOf(pane)),
  download,
  speak: (pane) => pane.notices.readOut(),
  fullscreen: (pane) => {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void pane.host.requestFullscreen();
  },
  escape: (pane) => {
    if (pane.finder.shown) {
      pane.finder.close();
      pane.view.scroller.focus();
    } else {
      pane.selected = { from: 0, to: -1 };
      pane.view.mark(0, -1);
    }
    pane.changed(false);
  },
  help: (pane) => pane.help.showModal(),
};

/** @param {Pane} pane */
function end(pane) {
  void pane.tried(pane.log.toEnd()).then((there) => {
    if (!there) return;
    pane.view.draw();
    pane.view.follow();
  });
}

/** @param {Pane} pane @param {number} direction */
function error(pane, direction) {
  const { errors } = pane.log.store;
  const shown = pane.view.marked;
  const here = shown.to >= shown.from ? shown.from : (pane.view.firstVisible() ?? 0) - (direction > 0 ? 1 : 0);
  const line = direction > 0 ? errors.find((n) => n > here) : errors.findLast((n) => n < here);
  const found = line ?? (direction > 0 ? errors[0] : errors.at(-1));
  if (found === undefined) return;
  pane.view.mark(found, found);
  pane.view.show(found);
}

/** @param {Pane} pane @param {Line | undefined} row @param {boolean | null} collapsed  Null: the other way. */
function fold(pane, row, collapsed) {
  const { store } = pane.log;
  const line = row?.n ?? (pane.selected.to >= pane.selected.from ? pane.selected.from : pane.view.firstVisible());
  const place = line === null ? null : store.find(line);
  const here = row ?? (place && place.block.rows[place.index]);
  const group = store.groups.get(here?.group ?? 0);
  if (!group) return;
  group.collapsed = collapsed ?? !group.collapsed;
  pane.view.read();
  pane.view.redrawAll();
}

/** @param {Pane} pane @returns {string}  The selected text, or lines, or the first line in sight. */
function textOf(pane) {
  const selected = pane.selectedText();
  if (selected !== null) return selected;
  const { from, to } = pane.selected;
  const first = pane.view.firstVisible() ?? 1;
  const lines = to >= from ? pane.log.store.between(from, to) : pane.log.store.between(first, first);
  return [...lines].map((row) => row.text).join("\n");
}

/** @param {Pane} pane @returns {string} */
function linkOf(pane) {
  const { from, to } = pane.selected;
  const first = pane.view.firstVisible() ?? 1;
  const place = to > from ? `L${from}-L${to}` : `L${to === from ? from : first}`;
  const attempt = pane.log.attempt === pane.log.newest ? "" : `?attempt=${pane.log.attempt}`;
  return new URL(`${withLink(`${pane.base}jobs/${pane.job}${attempt}`)}#${place}`, document.baseURI).href;
}

/** @param {Pane} pane @param {string} text */
async function copy(pane, text) {
  try {
    await navigator.clipboard.writeText(text);
    pane.notices.say("Copied");
  } catch {
    pane.notices.say("The browser does not allow copying here");
  }
}

/** @param {Pane} pane */
function download(pane) {
  const { log } = pane;
  const name = `${log.job}${log.attempt > 1 ? `.${log.attempt}` : ""}`;
  if (!pane.filter.on) return save(logUrl(log.base, log.job, log.attempt), `${name}.log`);
  const texts = [];
  for (const { rows } of log.store.blocks) for (const row of rows) if (log.store.shows(row)) texts.push(`${row.text}\n`);
  const url = URL.createObjectURL(new Blob(texts, { type: "text/plain" }));
  save(url, `${name}.filtered.log`);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** @param {string} url @param {string} name */
function save(url, name) {
  h("a", { href: url, download: name }).click();
}
