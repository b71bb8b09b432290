import assert from "node:assert/strict";
import test from "node:test";

import { compile, find, Hits, hitsIn } from "../../tailer/static/search.js";

const PLAIN = Object.freeze({ query: "", regex: false, matchCase: false, word: false });

/** @param {Partial<import("../../tailer/static/search.js").Wanted>} wanted @returns {RegExp} */
function pattern(wanted) {
  const { source, error } = compile({ ...PLAIN, ...wanted });
  assert.equal(error, "");
  return /** @type {RegExp} */ (source);
}

/** @param {Partial<import("../../tailer/static/search.js").Wanted>} wanted @param {string} text */
const found = (wanted, text) => hitsIn(text, pattern(wanted)).map(([start, end]) => text.slice(start, end));

test("nothing is looked for without a query", () => {
  assert.deepEqual(compile(PLAIN), { source: null, error: "" });
});

test("a literal is found whatever signs are in it", () => {
  for (let code = 1; code < 0x250; code++) {
    const query = `a${String.fromCharCode(code)}`;
    assert.deepEqual(found({ query, matchCase: true }, `--${query}--`), [query], query);
  }
  assert.deepEqual(found({ query: "^a.*[b]$" }, "x ^a.*[b]$ y"), ["^a.*[b]$"]);
});

test("case is told apart only if asked", () => {
  assert.deepEqual(found({ query: "errör" }, "ERRÖR errör"), ["ERRÖR", "errör"]);
  assert.deepEqual(found({ query: "errör", matchCase: true }, "ERRÖR errör"), ["errör"]);
});

test("whole words are told by letters of all scripts, and by those signs only that the query has", () => {
  assert.deepEqual(hitsIn("für fü für_ (fü)", pattern({ query: "fü", word: true })), [
    [4, 6],
    [13, 15],
  ]);
  assert.deepEqual(hitsIn("a --x b--x --xy", pattern({ query: "--x", word: true })), [[2, 5]]);
  assert.deepEqual(found({ query: "a|bc", regex: true, word: true }, "a bc abc"), ["a", "bc"]);
});

test("expressions that are well-formed without the flag u only are taken as well", () => {
  assert.deepEqual(found({ query: "\\-{", regex: true }, "a-{b"), ["-{"]);
  assert.ok(pattern({ query: "\\p{L}", regex: true }).unicode);
});

test("an expression that is not well-formed is told so, without what was typed", () => {
  for (const query of ["(", "[", "*", "a)(b", "(?<x"]) {
    for (const word of [true, false]) {
      const { source, error } = compile({ ...PLAIN, query, regex: true, word });
      assert.equal(source, null);
      assert.ok(error && !error.includes("/"), error);
    }
  }
});

test("matches of nothing count once, and only where nothing else matches", { timeout: 5000 }, () => {
  assert.deepEqual(hitsIn("", pattern({ query: "^$", regex: true })), [[0, 0]]);
  assert.deepEqual(hitsIn("abc", pattern({ query: "x*", regex: true })), [[0, 0]]);
  assert.deepEqual(hitsIn("axxb", pattern({ query: "x*", regex: true })), [[1, 3]]);
  assert.deepEqual(hitsIn("\u{1f600}\u{1f600}", pattern({ query: "x*", regex: true })), [[0, 0]]);
  assert.deepEqual(hitsIn("\u{1f600}x", pattern({ query: "(?=x)|x*", regex: true })), [[0, 0]]);
});

test("a line has a thousand matches at most", () => {
  assert.equal(hitsIn("a".repeat(5000), pattern({ query: "a" })).length, 1000);
});

test("all texts are searched, up to a limit", () => {
  const texts = ["aa", "", "b", "ba"];
  assert.deepEqual(find(texts, pattern({ query: "a" })), [
    [0, 0, 1],
    [0, 1, 2],
    [3, 1, 2],
  ]);
  assert.deepEqual(find(texts, pattern({ query: "a" }), 1), [[0, 0, 1]]);
});

test("hits are kept in the order of lines, also if they come in another one", () => {
  const hits = new Hits();
  for (const n of [5, 9, 7, 1, 7, 9]) hits.add(n, hits.count, hits.count + 1);
  assert.deepEqual([...hits.lines()], [1, 5, 7, 9]);
  assert.equal(hits.count, 6);
  assert.deepEqual(hits.parts(7), [
    [2, 3],
    [4, 5],
  ]);
  assert.deepEqual(hits.parts(8), []);
  assert.deepEqual([hits.line(0), hits.part(0)], [1, [3, 4]]);
  assert.deepEqual(
    [0, 1, 2, 5, 6, 9, 10].map((n) => hits.from(n)),
    [0, 0, 1, 1, 2, 4, 6],
  );
});

test("hits before a line, and from one on, can be let go of", () => {
  const hits = new Hits();
  for (const n of [1, 3, 3, 5, 7]) hits.add(n, 0, n);
  assert.equal(hits.drop(3), 1);
  hits.cut(7);
  assert.deepEqual([hits.count, ...hits.lines()], [3, 3, 5]);
  assert.deepEqual(hits.parts(5), [[0, 5]]);
  assert.deepEqual([hits.drop(9), hits.count, hits.drop(9)], [3, 0, 0]);
});

test("from the last hit one gets to the first, and back", () => {
  const hits = new Hits();
  assert.deepEqual([hits.next(-1), hits.prev(-1), hits.next(3)], [-1, -1, -1]);
  for (const n of [1, 2, 3]) hits.add(n, 0, 1);
  assert.deepEqual(
    [-1, 0, 1, 2, 7].map((i) => hits.next(i)),
    [0, 1, 2, 0, 0],
  );
  assert.deepEqual(
    [-1, 0, 1, 2, 7].map((i) => hits.prev(i)),
    [2, 2, 0, 1, 2],
  );
  hits.clear();
  assert.deepEqual([hits.count, hits.from(0), [...hits.lines()].length], [0, 0, 0]);
});

test("a million hits are kept and found", () => {
  const hits = new Hits();
  for (let n = 1; n <= 1_000_000; n++) hits.add(n, 3, 8);
  assert.equal(hits.from(734_112), 734_111);
  assert.deepEqual(hits.parts(1_000_000), [[3, 8]]);
});
