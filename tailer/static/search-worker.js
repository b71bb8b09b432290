/**
 * The worker of searcher.js: searches texts beside the page, which an expression without end could otherwise stop.
 *
 * It says `{ready}` once it runs. Asked `{id, re, texts, ns}`, it answers `{id, hits}`.
 */

import { find } from "./search.js";

onmessage = ({ data: { id, re, texts, ns } }) => {
  const hits = find(texts, new RegExp(re.source, re.flags));
  for (const hit of hits) hit[0] = ns[hit[0]];
  postMessage({ id, hits });
};
postMessage({ ready: true });
