import assert from "node:assert/strict";
import test from "node:test";

import { groupMark, jsonOf, level, Tracebacks } from "../../tailer/static/marks.js";

/** @param {string} expected @param {string[]} lines @param {boolean} [err] */
function allAre(expected, lines, err) {
  for (const line of lines) assert.equal(level(line, err), expected, line);
}

test("levels are read from the forms that loggers of Python write", () => {
  allAre("error", [
    "ERROR:root:it broke",
    "CRITICAL:app:it broke",
    "2026-11-24 10:00:00,123 - my.module - ERROR - it broke",
    "2026-11-24 10:00:00,123 ERROR my.module: it broke",
    "2026-11-24 10:00:00,123 my.module ERROR it broke",
    "[2026-11-24 10:00:00 +0000] [12] [ERROR] it broke",
    "[2026-11-24 10:00:00,123: ERROR/MainProcess] it broke",
    "2026-11-24 10:00:00.123 | ERROR    | app.run:main:12 - it broke",
    "[10:00:00] ERROR    it broke                  app.py:12",
    "           ERROR    it broke                  app.py:13",
    "2026-11-24 10:00:00 [error    ] it broke  key=1",
    "[ERROR] it broke",
    "web_1  | ERROR:    it broke",
    "Nov 24 10:00:00 host app[12]: CRITICAL: it broke",
  ]);
  allAre("warning", [
    "WARNING:root:look",
    "2026-11-24 10:00:00,123 - a - WARNING - look",
    "2026-11-24 10:00:00.123 | WARNING  | a:b:1 - look",
    "[WARN] look",
    "/app/x.py:3: DeprecationWarning: look",
    "UserWarning: look",
  ]);
  allAre("info", [
    'INFO:     127.0.0.1:5 - "GET / HTTP/1.1" 200',
    "[2026-11-24 10:00:00 +0000] [1] [INFO] Booting",
    "2026-11-24 10:00:00 | SUCCESS  | a:b:1 - ERROR is gone",
  ]);
  allAre("debug", ["DEBUG:a:b", "2026-11-24 10:00:00,123 DEBUG a: b"]);
});

test("levels are read from fields, with words or numbers", () => {
  allAre("error", [
    'time="2026-11-24T10:00:00Z" level=error msg="x"',
    "lvl=crit msg=x",
    '{"level":"error","msg":"x"}',
    '{"levelname": "ERROR"}',
    '{"severity":"CRITICAL"}',
    '{"log.level":"error"}',
    "{'level': 'fatal'}",
    '{"level":50,"msg":"x"}',
  ]);
  allAre("warning", ["level=warn msg=x", '{"level":40}', '{"level":"WARNING"}']);
  allAre("info", ['level=info msg="level=error is bad"', '{"level":30}', '{"level":"info","error":null}']);
  allAre("debug", ["level=debug", '{"level":"trace"}']);
  allAre("", ["level=constructor", "level: 50 reached", "the level is high", "sea level: rising"]);
});

test("levels are read from what programs of other kinds say", () => {
  allAre("error", [
    "Traceback (most recent call last):",
    "ValueError: bad",
    "pkg.mod.SomeError: bad",
    "KeyboardInterrupt",
    "Exception: bad",
    "  | TypeError: bad",
    "panic: runtime error: index out of range",
    "fatal: not a git repository",
    "fatal error: all asleep",
    "x.c:3:5: error: expected ';'",
    "x.py:12: error: bad type  [arg]",
    "error[E0382]: use of moved value",
    "ld: fatal error: x",
    "src/x.ts(3,5): error TS2304: cannot find",
    "Error: Cannot find module",
    "npm ERR! code 1",
    "thread 'main' panicked at x.rs:2:5:",
    "Caused by: java.io.IOException: x",
    'Exception in thread "main" x',
    "2026/11/24 10:00:00 [error] 12#0: x",
    "E1124 10:00:00.000000 1 x.go:3] x",
    "ERROR 0 rows were written",
  ]);
  allAre("warning", [
    "warning: unused",
    "x.c:3:5: warning: unused",
    "Warning: look",
    "W1124 10:00:00.000000 1 x.go:3] x",
  ]);
  allAre("info", ["I1124 10:00:00.000000 1 x.go:3] x"]);
});

test("prose about errors has no level", () => {
  allAre("", [
    "0 errors",
    "no error",
    "No errors found",
    "12 passed, 0 errors, 3 warnings",
    "found 0 ERROR lines",
    "there was no ERROR: good",
    "errors: 0",
    "error: none",
    "Error: 0.0312",
    "error: 0, next",
    "error rate is 0.3",
    "the error was handled",
    "Debug mode: off",
    "test_error.py .....",
    "informational text",
    "terror",
    "INFORMATION_SCHEMA",
    "WARNINGS=3",
    "an error occurred",
    "",
    " ",
    "E2 is a cell",
    "callback(error)",
    "loading error_pages/404.html",
    "if (x) panic();",
  ]);
  allAre("", ["0 ERROR", "no error", "errors"], true);
});

test("a bare word is taken for a level on stderr only", () => {
  assert.equal(level("npm WARN deprecated x", true), "warning");
  assert.equal(level("npm WARN deprecated x", false), "");
});

test("what stands far behind the front of a line has no say", () => {
  assert.equal(level(`${"x ".repeat(200)} ERROR: y`, true), "");
});

test("marks of groups are read in the forms of GitHub and GitLab", () => {
  const group = { kind: "start", title: "Build it", name: "", collapsed: false, time: 0 };
  assert.deepEqual(groupMark("::group::Build it"), group);
  assert.deepEqual(groupMark("::endgroup::"), { ...group, kind: "end", title: "" });
  const section = { kind: "start", title: "prepare", name: "prepare", collapsed: true, time: 1_560_896_352 };
  assert.deepEqual(groupMark("section_start:1560896352:prepare[collapsed=true]"), section);
  assert.deepEqual(groupMark("section_start:1560896352:prepare[hide_duration=true,collapsed=true]"), section);
  assert.deepEqual(groupMark("section_start:1560896352:prepare[collapsed=true]\r\x1b[0KPrepare all"), {
    ...section,
    title: "Prepare all",
  });
  assert.deepEqual(groupMark("section_start:1560896352:prepare"), { ...section, collapsed: false });
  assert.deepEqual(groupMark("section_end:1560896353:prepare"), {
    kind: "end",
    title: "",
    name: "prepare",
    collapsed: false,
    time: 1_560_896_353,
  });
});

test("what only resembles a mark of a group is none", () => {
  for (const text of [
    "",
    ":",
    "::",
    "::groups::x",
    " ::group::x",
    "x ::endgroup::",
    "section_start:",
    "section_start:x:y",
    "section_middle:1:x",
    "section_end:12",
  ]) {
    assert.equal(groupMark(text), null, text);
  }
});

/** i: inside, d: dim, F: first, L: last, .: outside. @param {string} text */
function signs(text) {
  const tracebacks = new Tracebacks();
  return text
    .split("\n")
    .map((row) => {
      const { inside, dim, first, last } = tracebacks.next(row);
      return first ? "F" : last ? "L" : dim ? "d" : inside ? "i" : ".";
    })
    .join("");
}

const SIMPLE = `Traceback (most recent call last):
  File "/app/run.py", line 3, in main
    load()
  File "/venv/lib/python3.11/site-packages/pkg/x.py", line 9, in load
    return f(
           ^^
  File "<frozen importlib._bootstrap>", line 1, in g
  File "/usr/lib/python3.11/json/__init__.py", line 1, in h
    x
  [Previous line repeated 9 more times]
  File "/app/last.py", line 3, in k
    raise ValueError("bad")
ValueError: bad`;

test("a traceback goes from its head to the line of its exception, and frames outside the app are dim", () => {
  assert.equal(signs(`before\n${SIMPLE}\nafter`), ".FiidddddddiiL.");
});

test("frames are dim wherever others' packages and Python's own files are", () => {
  for (const path of [
    "/opt/x/dist-packages/y.py",
    "C:\\Python\\Lib\\site-packages\\x.py",
    "/opt/lib/python3.12/a.py",
    "/usr/lib/x.py",
  ]) {
    assert.equal(
      signs(`Traceback (most recent call last):\n  File "${path}", line 1, in f\n    x\nE: y`),
      "FddL",
      path,
    );
  }
  assert.equal(
    signs('Traceback (most recent call last):\n  File "/home/usr/lib/x.py", line 1, in f\n    x\nE'),
    "FiiL",
  );
});

test("chained tracebacks are one, with the line of each exception", () => {
  const during = "\nDuring handling of the above exception, another exception occurred:\n\n";
  const direct = "\nThe above exception was the direct cause of the following exception:\n\n";
  const part = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    x\npkg.E: y\n';
  assert.equal(signs(`${part}${during}${part}${direct}${part}\nafter`), "FiiL.iiiiiL.iiiiiL..".replace(/\s/g, ""));
  assert.equal(signs(`${part}\n${part}`), "FiiL.FiiL.");
});

test("groups of exceptions are one traceback", () => {
  const text = `  + Exception Group Traceback (most recent call last):
  |   File "/app/x.py", line 1, in <module>
  |     raise group
  | ExceptionGroup: two (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/usr/lib/y.py", line 1, in f
    |     x
    | ValueError: 1
    +---------------- 2 ----------------
    | ValueError: 2
    +------------------------------------
after`;
  assert.equal(signs(text), "FiiLiiddLiii.");
});

test("a traceback may be indented, or begin behind a logger's words", () => {
  const indented = SIMPLE.split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
  assert.equal(signs(`${indented}\n    after`), "FiidddddddiiL.");
  assert.equal(signs(`ERROR:root:${SIMPLE}\nafter`), "FiidddddddiiL.");
});

test("a traceback that was cut off ends where other text begins", () => {
  const head = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\n    x\n';
  assert.equal(signs(`${head}some other text\nmore`), "Fii..");
  assert.equal(signs(`    ${head.trim().replaceAll("\n", "\n    ")}\nab\nE: x`), "Fii..");
  assert.equal(signs(`${head}${SIMPLE}`), `Fii${signs(SIMPLE)}`);
});

test("a line is JSON if all of it is an object or an array", () => {
  assert.deepEqual(jsonOf(' {"a": [1]} '), { a: [1] });
  assert.deepEqual(jsonOf("[1, 2]"), [1, 2]);
  for (const text of [
    "",
    " ",
    "1",
    '"x"',
    "null",
    "{x}",
    "[INFO]",
    '{"a":1} x',
    "{",
    '{"a":1]',
    `[${"1,".repeat(600_000)}1]`,
  ]) {
    assert.equal(jsonOf(text), null, text.slice(0, 20));
  }
});
