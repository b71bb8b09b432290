/** Which key does what: one table for the handler and for the help. */

/** @typedef {[key: string, action: string, help: string]} Key */

/** @type {Key[]} */
export const KEYS = [
  ["/", "find", "Search"],
  ["n", "nextHit", "Next match"],
  ["N", "previousHit", "Match before"],
  ["\\", "filter", "Filter"],
  ["f", "follow", "Follow, or stop following"],
  ["g", "top", "First line"],
  ["G", "end", "Last line, and follow"],
  [":", "goTo", "Go to a line"],
  ["e", "nextError", "Next error"],
  ["E", "previousError", "Error before"],
  ["s", "stderr", "stderr only"],
  ["w", "wrap", "Wrap long lines"],
  ["t", "time", "Times: off, of day, since the start, since the line before"],
  ["[", "foldGroup", "Fold the group"],
  ["]", "unfoldGroup", "Unfold the group"],
  ["z", "foldAll", "Fold all groups, or none"],
  ["r", "repeats", "Fold repeated lines, or not"],
  ["c", "copy", "Copy the selected lines, or the first one in sight"],
  ["y", "copyLink", "Copy a link to them"],
  ["d", "download", "Download the log"],
  ["l", "speak", "Read out the last five lines"],
  ["F", "fullscreen", "Full screen"],
  ["Escape", "escape", "Close, or select nothing"],
  ["?", "help", "These keys"],
];

/** For a page with several logs and a list. @type {Key[]} */
export const PAGE_KEYS = [
  ["j", "nextJob", "Next job of the list"],
  ["k", "previousJob", "Job before it"],
  ["|", "split", "One more pane"],
  ["x", "closePane", "Close the pane"],
  ["m", "merge", "All panes as one log, or side by side"],
  ["1", "pane1", "First pane, and so on"],
  ["b", "list", "Show or hide the list"],
];

const NATIVE_END = /** @type {Record<string, string>} */ ({ End: "end", Home: "top" });

/**
 * @param {KeyboardEvent} event
 * @param {Key[]} table
 * @returns {string | null}  The action that it stands for; null where the key belongs to a field or to the browser.
 */
export function actionOf(event, table) {
  const target = /** @type {Element | undefined} */ (event.composedPath()[0]);
  const typing = target instanceof Element && target.closest?.("input, textarea, select, [contenteditable]");
  if (event.defaultPrevented || event.isComposing || event.altKey) return null;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "f") return "findOnce";
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a" && !typing && table === KEYS) return "selectAll";
  if (event.ctrlKey || event.metaKey) return null;
  if (typing) return event.key === "Escape" ? "escape" : null;
  if (event.key in NATIVE_END && table === KEYS) return NATIVE_END[event.key];
  return table.find(([key]) => key === event.key)?.[1] ?? null;
}
