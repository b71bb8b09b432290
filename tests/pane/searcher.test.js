import assert from "node:assert/strict";
import test from "node:test";
import { Worker } from "node:worker_threads";

import { Searcher } from "../../tailer/static/searcher.js";

const MODULE = new URL("../../tailer/static/search-worker.js", import.meta.url).href;
/** What browsers give a worker, made of what Node gives one. */
const CODE = `
  const { parentPort, workerData } = require("node:worker_threads");
  globalThis.onmessage = null;
  globalThis.postMessage = (message) => parentPort.postMessage(message);
  import(workerData).then(() => parentPort.on("message", (data) => globalThis.onmessage({ data })));
`;
const CATASTROPHE = /(a+)+$/g;
const BAIT = `${"a".repeat(40)}b`;

/** Searchers with the real worker in threads of Node. @param {import("node:test").TestContext} t */
function threads(t) {
  /** @type {any[]} */
  const made = [];
  t.after(() => Promise.all(made.map((worker) => worker.terminate())));
  const makeWorker = () => {
    /** @type {any} */
    const worker = new Worker(CODE, { eval: true, workerData: MODULE });
    worker.on("message", (/** @type {any} */ data) => worker.onmessage?.({ data }));
    worker.on("error", (/** @type {any} */ error) => worker.onerror?.(error));
    made.push(worker);
    return worker;
  };
  return { made, makeWorker, searcher: new Searcher(makeWorker) };
}

/** A worker that a test answers for. */
function puppets() {
  /** @type {any[]} */
  const made = [];
  const makeWorker = () => {
    const worker = { asked: [], ended: false, terminate: () => (worker.ended = true) };
    worker.postMessage = (message) => worker.asked.push(message);
    worker.say = (data) => worker.onmessage({ data });
    worker.answer = (hits = []) => worker.say({ id: worker.asked.at(-1).id, hits });
    made.push(worker);
    return worker;
  };
  return { made, searcher: new Searcher(makeWorker) };
}

const block = (first, ...texts) => ({ texts, ns: texts.map((_, i) => first + i) });

/** All that a search tells, in order. */
function listening(searcher, pattern, blocks) {
  const told = [];
  const over = new Promise((resolve) => {
    searcher.search(
      pattern,
      blocks,
      (hits) => told.push(hits),
      () => resolve(told.push("done")),
      (reason) => resolve(told.push(reason)),
    );
  });
  return { told, over };
}

test("blocks are searched in order, and each is answered, also without a match", { timeout: 20_000 }, async (t) => {
  const { searcher, made } = threads(t);
  const { told, over } = listening(searcher, /b+/g, [block(1, "abba", "x"), block(3, "x"), block(4, "b b", "b")]);
  await over;
  assert.deepEqual(told, [
    [[1, 1, 3]],
    [],
    [
      [4, 0, 1],
      [4, 2, 3],
      [5, 0, 1],
    ],
    "done",
  ]);
  assert.equal(made.length, 1);
});

test("an expression that takes too long is ended, and the next one is searched", { timeout: 20_000 }, async (t) => {
  const { searcher, made } = threads(t);
  const bad = listening(searcher, CATASTROPHE, [block(1, "aa"), block(2, BAIT), block(3, "aa")]);
  await bad.over;
  assert.deepEqual(bad.told, [[[1, 0, 2]], "the expression takes too long"]);
  const good = listening(searcher, /a+/g, [block(2, BAIT)]);
  await good.over;
  assert.deepEqual(good.told, [[[2, 0, 40]], "done"]);
  assert.equal(made.length, 2);
});

test("a search that replaces one that hangs is not taken for it", { timeout: 20_000 }, async (t) => {
  const { searcher } = threads(t);
  const bad = listening(searcher, CATASTROPHE, [block(1, BAIT)]);
  const good = listening(searcher, /b/g, [block(1, BAIT)]);
  await good.over;
  assert.deepEqual(good.told, [[[1, 40, 41]], "done"]);
  assert.deepEqual(bad.told, []);
});

test("a worker that does not come up ends the search", { timeout: 20_000 }, async (t) => {
  const { made, makeWorker } = threads(t);
  const searcher = new Searcher(() => {
    const worker = makeWorker();
    void worker.terminate();
    queueMicrotask(() => worker.onerror(new Error("no module")));
    return worker;
  });
  const { told, over } = listening(searcher, /a/g, [block(1, "a")]);
  await over;
  assert.deepEqual(told, ["the search does not run"]);
  assert.equal(made.length, 1);
});

test("one block is sent at a time, and taken only then", () => {
  const { searcher, made } = puppets();
  let taken = 0;
  function* blocks() {
    for (; taken < 3;) yield block(++taken, "a");
  }
  const { told } = listening(searcher, /a/g, blocks());
  const [worker] = made;
  assert.deepEqual([taken, worker.asked.length], [1, 1]);
  assert.deepEqual(worker.asked[0].re, { source: "a", flags: "g" });
  worker.answer();
  assert.deepEqual([taken, worker.asked.length], [2, 2]);
  worker.say({ id: worker.asked[0].id, hits: [[9, 9, 9]] });
  assert.equal(worker.asked.length, 2, "an answer that comes twice counts once");
  worker.answer();
  worker.answer();
  assert.deepEqual(told, [[], [], [], "done"]);
});

test("searches of one pattern follow each other, and another pattern replaces them", () => {
  const { searcher, made } = puppets();
  const pattern = /a/g;
  const one = listening(searcher, pattern, [block(1, "a")]);
  const two = listening(searcher, pattern, [block(2, "a")]);
  const [worker] = made;
  worker.answer([[1, 0, 1]]);
  assert.deepEqual([one.told, two.told], [[[[1, 0, 1]], "done"], []]);
  const three = listening(searcher, /b/g, [block(1, "b")]);
  assert.equal(worker.asked.length, 2, "what is being searched is waited for");
  worker.answer([[2, 0, 1]]);
  worker.answer([[1, 0, 1]]);
  assert.deepEqual([two.told, three.told], [[], [[[1, 0, 1]], "done"]]);
  assert.equal(made.length, 1);
});

test("after a stop nobody is told anything, not even by the listener that stopped", () => {
  const { searcher, made } = puppets();
  const { told } = listening(searcher, /a/g, [block(1, "a"), block(2, "a")]);
  searcher.stop();
  made[0].answer([[1, 0, 1]]);
  assert.deepEqual([told, made[0].ended], [[], true]);
  searcher.search(/a/g, [block(1, "a"), block(2, "a")], () => searcher.stop(), assert.fail, assert.fail);
  made[1].answer();
  assert.equal(made[1].asked.length, 1);
});

test("a search of no blocks is done at once, and what that begins goes on", () => {
  const { searcher, made } = puppets();
  const told = [];
  searcher.search(
    /a/g,
    [],
    assert.fail,
    () => listening(searcher, /b/g, [block(1, "b")]).over.then(() => told.push("b")),
    assert.fail,
  );
  assert.equal(made[0].asked.length, 1);
});

test("a worker has all the time it needs to load", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { searcher, made } = puppets();
  const { told } = listening(searcher, /a/g, [block(1, "a"), block(2, "a")]);
  t.mock.timers.tick(60_000);
  made[0].say({ ready: true });
  t.mock.timers.tick(200);
  made[0].answer();
  t.mock.timers.tick(125);
  t.mock.timers.tick(125);
  assert.deepEqual(told, [[], "the expression takes too long"]);
  assert.ok(made[0].ended);
});
