import assert from "node:assert/strict";
import test from "node:test";

import * as words from "../../tailer/static/words.js";

/** @param {(value: number) => string} say @param {[number, string][]} cases */
function each(say, cases) {
  for (const [value, said] of cases) assert.equal(say(value), said, String(value));
}

test("durations have the two units that matter, and never sixty of one", () => {
  each(words.duration, [
    [0, "0 s"],
    [0.001, "1 ms"],
    [0.85, "850 ms"],
    [0.9994, "999 ms"],
    [0.9996, "1.0 s"],
    [3, "3 s"],
    [3.2, "3.2 s"],
    [59.94, "59.9 s"],
    [59.96, "1 m 0 s"],
    [72, "1 m 12 s"],
    [3599.6, "1 h 00 m"],
    [7380, "2 h 03 m"],
    [86_399, "23 h 59 m"],
    [86_400, "1 d 0 h"],
    [273_600, "3 d 4 h"],
  ]);
});

test("clocks that differ make no negative duration", () => {
  each(words.duration, [
    [-3, "0 s"],
    [NaN, "0 s"],
  ]);
});

test("bytes are counted in units of 1024, with one digit behind the point", () => {
  each(words.bytes, [
    [0, "0 B"],
    [812, "812 B"],
    [1023, "1023 B"],
    [1024, "1.0 KiB"],
    [1_468_006, "1.4 MiB"],
    [1024 ** 2 - 1, "1.0 MiB"],
    [3 * 1024 ** 3, "3.0 GiB"],
    [5 * 1024 ** 4, "5.0 TiB"],
    [2000 * 1024 ** 5, "2000.0 PiB"],
  ]);
});

test("counts are grouped by thousands", () => {
  each(words.count, [
    [0, "0"],
    [999, "999"],
    [1284, "1,284"],
    [1_000_000, "1,000,000"],
  ]);
});

test("ordinals end as they are said", () => {
  each(words.ordinal, [
    [1, "1st"],
    [2, "2nd"],
    [3, "3rd"],
    [4, "4th"],
    [11, "11th"],
    [12, "12th"],
    [13, "13th"],
    [21, "21st"],
    [101, "101st"],
    [111, "111th"],
    [1002, "1,002nd"],
  ]);
});

test("one of a thing is singular, and any other number of them plural", () => {
  assert.equal(words.plural(1, "line"), "1 line");
  assert.equal(words.plural(0, "line"), "0 lines");
  assert.equal(words.plural(1284, "line"), "1,284 lines");
  assert.equal(words.plural(2, "match", "matches"), "2 matches");
});

test("a time of day is the reader's, to the millisecond", () => {
  assert.equal(words.clock(new Date(2026, 10, 24, 9, 3, 7, 25).getTime()), "09:03:07.025");
});

test("a relative time has a sign and milliseconds", () => {
  assert.equal(words.relative(112_345, 100_000), "+12.345 s");
  assert.equal(words.relative(100_000, 100_000), "+0.000 s");
  assert.equal(words.relative(99_900, 100_000), "−0.100 s");
});

test("a full time is in UTC, and no time is nothing", () => {
  assert.equal(words.timestamp(Date.UTC(2026, 10, 24, 9, 30, 0, 125)), "2026-11-24T09:30:00.125Z");
  assert.equal(words.timestamp(NaN), "");
});
