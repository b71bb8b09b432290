import assert from "node:assert/strict";
import test from "node:test";

import { stateOf } from "../../tailer/static/header.js";

/** @param {string | null} status @param {...object | null} ends  Of the attempts. */
function state(status, ...ends) {
  const attempts = ends.map((end, i) => ({ attempt: i + 1, end }));
  return stateOf({ status, outcome: ends.at(-1)?.outcome ?? null, attempts });
}

test("a job is in the state that RQ says, or ended as its log says", () => {
  assert.equal(state("queued"), "queued");
  assert.equal(state("started"), "started");
  assert.equal(state("started", null), "started");
  assert.equal(state("failed", { outcome: "killed", final: true, status: "failed" }), "killed");
  assert.equal(state("finished"), "finished");
  assert.equal(state(null), "deleted");
});

test("a job that went down with its worker does not run, though RQ says so", () => {
  const lost = { outcome: "lost", final: true, status: "started" };
  assert.equal(state("started", lost), "lost");
  assert.equal(state("started", lost, null), "started");
  assert.equal(state("queued", lost), "queued");
});

test("a job that is run again runs, before its log says so too", () => {
  assert.equal(state("started", { outcome: "failed", final: true, status: "failed" }), "started");
  assert.equal(state("started", { outcome: "failed", final: false, status: "started" }), "started");
});
