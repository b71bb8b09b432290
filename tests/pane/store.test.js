import assert from "node:assert/strict";
import test from "node:test";

import { BLOCK, MAX_ROWS, Store } from "../../tailer/static/store.js";

/** A record of whole lines. @param {number} line @param {number} lines @param {(n: number) => string} [text] */
function record(line, lines, text = (n) => `line ${n}`) {
  const all = Array.from({ length: lines }, (_, i) => `${text(line + i)}\n`).join("");
  return { cursor: `1:${1000 * (line + lines)}`, time: "2026-01-01T00:00:00Z", stream: "stdout", line, lines, text: all };
}

/** Lines that are errors touch their rows. @param {Store} store @param {number} from @param {number} to */
function fill(store, from, to) {
  for (let line = from; line < to; line += 1000) store.append(record(line, 1000, (n) => `ERROR: ${n}`));
}

/** As `deepEqual`, which would print all the rows. @param {object[]} these @param {object[]} those */
function same(these, those) {
  assert.equal(these.length, those.length);
  assert.ok(these.every((one, i) => one === those[i]));
}

test("what nobody has looked at yet is let go of as all else", () => {
  const store = new Store();
  fill(store, 1, MAX_ROWS + 20_001);
  const { after, dropped, grown, touched } = store.drain();
  same(after, store.blocks);
  assert.equal(dropped.length, 0);
  assert.ok([...grown].every((block) => store.blocks.includes(block)));
  assert.ok(touched.size <= store.rows);
});

test("who looks now and then is told of what is gone, if it was told of it before", () => {
  const store = new Store();
  fill(store, 1, 10_001);
  const known = store.drain().after;
  fill(store, 10_001, MAX_ROWS + 20_001);
  const { after, dropped } = store.drain();
  same(dropped, known);
  same(after, store.blocks);
});

test("older lines that are loaded push out newer ones, known or not", () => {
  const store = new Store(MAX_ROWS);
  fill(store, MAX_ROWS, MAX_ROWS + 10_000);
  store.drain();
  fill(store, MAX_ROWS + 10_000, MAX_ROWS + 20_000);
  store.prepend([record(1, MAX_ROWS - 1)]);
  store.cut();
  const { before, after, dropped } = store.drain();
  same(before, store.blocks.slice(0, before.length));
  same(after, []);
  assert.ok(dropped.length >= 10_000 / BLOCK - 1);
  assert.ok(dropped.every((block) => !store.blocks.includes(block)));
});

test("a new era begins with other rows, not with new ones below or old ones let go of", () => {
  const store = new Store(50_001);
  fill(store, 50_001, 51_001);
  const { era } = store;
  fill(store, 51_001, 50_001 + MAX_ROWS + 20_000);
  assert.ok(store.firstLine > 50_001);
  assert.equal(store.era, era);
  store.prepend([record(50_001, store.firstLine - 50_001)]);
  assert.equal(store.era, era + 1);
  store.reset(1, "1:0");
  assert.equal(store.era, era + 2);
});

test("how many rows a filter lets through is told of those that are here", () => {
  const store = new Store();
  store.sieve(true, 0);
  const even = () => [...store.between(1, Infinity)].filter((row) => row.n % 2 === 0);
  fill(store, 1, 100_001);
  store.append({ cursor: "1:9", time: "2026-01-01T00:00:00Z", line: 100_001, lines: 1, missing: 5, cause: "a test" });
  const early = even();
  for (const row of early) store.sift(row, true);
  fill(store, 100_002, MAX_ROWS + 20_002);
  assert.equal(store.shown, early.filter((row) => row.n >= store.firstLine).length);
  const { shown } = store;
  store.sift(early[0], true);
  assert.equal(store.shown, shown);
});
