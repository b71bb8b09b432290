import assert from "node:assert/strict";
import test from "node:test";

import { format, parse } from "../../tailer/static/url.js";

/** @typedef {import("../../tailer/static/url.js").State} State */

/** @param {string} url @param {string} [base] */
function read(url, base = "/") {
  const { pathname, search, hash } = new URL(url, "http://host.example");
  return parse(pathname, search, hash, base);
}

const NOTHING = Object.freeze(read("/"));

/** A generator of numbers that are the same in every run. @param {number} seed */
function numbers(seed) {
  let state = seed;
  return (/** @type {number} */ below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** @param {(below: number) => number} number @returns {State} */
function anyState(number) {
  const one = (/** @type {any[]} */ ...choices) => choices[number(choices.length)];
  const id = () => Array.from({ length: 1 + number(20) }, () => "aZ09_-"[number(6)]).join("");
  const text = () => Array.from({ length: number(8) }, () => one(..."a &=+#%?/\\\"'<>.*ü\u{1f600}\u0000\n")).join("");
  const from = 1 + number(1_000_000);
  const line = one(null, { from, to: from }, { from, to: from + number(1000) });
  const jobs = [...new Set(Array.from({ length: number(4) }, id))];
  return {
    jobs,
    queues: one([], [], [...new Set(Array.from({ length: number(3) }, text))].filter(Boolean)),
    merge: jobs.length > 1 && one(true, false),
    attempt: one(null, 1, 1 + number(1000)),
    q: text(),
    re: one(true, false),
    case: one(true, false),
    word: one(true, false),
    level: one("", "error", "warning"),
    err: one(true, false),
    wrap: one(null, true, false),
    time: one(null, "off", "abs", "rel", "delta"),
    filter: text(),
    context: number(20),
    line,
    end: line ? false : one(true, false),
    layout: one("", "2x1", "1x2", "2x2"),
    link: one("", "WyJhIiw2MF0.aB-c_d.eF"),
  };
}

test("a state that became a URL becomes the same state again", () => {
  const number = numbers(20_261_124);
  for (let i = 0; i < 3000; i++) {
    const state = anyState(number);
    for (const base of ["/", "/tailer/"]) {
      const url = format(state, base);
      assert.ok(url.startsWith(base));
      assert.deepEqual(read(url, base), state, url);
      assert.equal(format(read(url, base), base), url);
    }
  }
});

test("a URL says nothing of what is as usual", () => {
  assert.equal(format(NOTHING, "/"), "/");
  assert.equal(format({ ...NOTHING, jobs: ["a"] }, "/tailer/"), "/tailer/jobs/a");
  assert.equal(format({ ...NOTHING, jobs: ["a", "b"] }, "/"), "/view?job=a&job=b");
});

test("the documented forms are understood", () => {
  assert.deepEqual(read("/jobs/x-1?attempt=2&q=a+b&re=1&level=error&err=1&wrap=0&t=rel#L120-L184"), {
    ...NOTHING,
    jobs: ["x-1"],
    attempt: 2,
    q: "a b",
    re: true,
    level: "error",
    err: true,
    wrap: false,
    time: "rel",
    line: { from: 120, to: 184 },
  });
  assert.deepEqual(read("/jobs/x#L120").line, { from: 120, to: 120 });
  assert.deepEqual(read("/jobs/x#L184-120").line, { from: 120, to: 184 });
  assert.equal(read("/jobs/x#end").end, true);
  assert.deepEqual(read("/view?job=a&job=b&layout=2x1"), {
    ...NOTHING,
    jobs: ["a", "b"],
    layout: "2x1",
  });
  assert.deepEqual(read("/view?job=a&job=b&merge=1"), { ...NOTHING, jobs: ["a", "b"], merge: true });
  assert.deepEqual(read("/view?queue=mail&queue=a+b"), { ...NOTHING, queues: ["mail", "a b"] });
  for (const url of ["/", "/jobs"]) assert.deepEqual(read(url), NOTHING);
});

test("what is not a job's id gives no job", () => {
  for (const url of [
    "/jobs/",
    "/jobs/a/b",
    "/jobs/a.b",
    "/jobs/a%2fb",
    `/jobs/${"a".repeat(201)}`,
    "/view",
    "/view?job=",
    "/viewer?job=a",
  ]) {
    assert.deepEqual(read(url).jobs, [], url);
  }
  assert.deepEqual(read("/view?job=a&job=../b&job=a&job=c").jobs, ["a", "c"]);
  assert.deepEqual(read("/jobs/a", "/tailer/").jobs, []);
});

test("a link cannot make a page follow any number of jobs", () => {
  const query = Array.from({ length: 500 }, (_, i) => `job=j${i}`).join("&");
  assert.equal(read(`/view?${query}`).jobs.length, 32);
  assert.equal(read(`/view?${query.replaceAll("job=", "queue=")}`).queues.length, 16);
});

test("what cannot be understood is ignored", () => {
  const url = "/?attempt=-1&re=yes&level=loud&err=2&wrap=maybe&t=now&context=1e3&layout=9x99&x=y#L0";
  assert.deepEqual(read(url), NOTHING);
  assert.deepEqual(read("/?attempt=0&context=-1&layout=evil%22#L1-"), NOTHING);
});
