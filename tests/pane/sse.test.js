import assert from "node:assert/strict";
import test from "node:test";

import { parser } from "../../tailer/static/sse.js";

/** Events of a text that comes in pieces. */
function read(...pieces) {
  const events = [];
  const parse = parser((event) => events.push(event));
  for (const piece of pieces) parse(piece);
  return events;
}

const STREAM =
  'retry: 2000\n\nevent: job\ndata: {"job":"a"}\n\n: a comment\nid: 1:5\ndata: one\ndata: two\n\nid: 1:9\r\ndata:three\r\n\r\nevent: ping\ndata: {}\n\n';

test("events have a name, an id of their own, and their data lines", () => {
  assert.deepEqual(read(STREAM), [
    { name: "job", id: "", data: '{"job":"a"}' },
    { name: "message", id: "1:5", data: "one\ntwo" },
    { name: "message", id: "1:9", data: "three" },
    { name: "ping", id: "", data: "{}" },
  ]);
});

test("it does not matter where a stream is cut", () => {
  const whole = read(STREAM);
  for (let i = 0; i <= STREAM.length; i++) assert.deepEqual(read(STREAM.slice(0, i), STREAM.slice(i)), whole, `at ${i}`);
  assert.deepEqual(read(...STREAM), whole);
});

test("an id counts without an event, too", () => {
  const ids = [];
  const parse = parser(() => {}, (id) => ids.push(id));
  parse("retry: 1\nid: a@1:0\n\ndata: x\n\nid: a@1:1\ndata: y\n\n");
  assert.deepEqual(ids, ["a@1:0", "a@1:1"]);
});

test("what has no data is no event, and what is not complete is none yet", () => {
  assert.deepEqual(read("id: 1\n\nevent: x\n\ndata: incomplete\n"), []);
  assert.deepEqual(read("data\n\n"), [{ name: "message", id: "", data: "" }]);
});
