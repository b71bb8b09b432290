import assert from "node:assert/strict";
import test from "node:test";

import { fileRefs, pieces } from "../../tailer/static/links.js";
import { growth, LINEAR } from "./growth.js";

/** @param {string} text */
const hrefs = (text) => pieces(text).map(({ href }) => href);

test("addresses of http and https are found where they are", () => {
  const text = "see https://a.example/x?y=1#z and HTTP://b.example:8000/";
  for (const { start, end, href } of pieces(text)) assert.equal(text.slice(start, end), href);
  assert.deepEqual(hrefs(text), ["https://a.example/x?y=1#z", "HTTP://b.example:8000/"]);
});

test("nothing but http and https is an address", () => {
  for (const text of [
    "javascript://a.example/%0aalert(1)",
    "ftp://a.example",
    "xhttp://a.example",
    "http:a.example",
    "http://",
    "http:// a",
    "https://.",
    "://",
    "http://[",
    "data:text/html,http",
  ]) {
    assert.deepEqual(hrefs(text), [], text);
  }
});

test("punctuation of the sentence around an address is not part of it", () => {
  for (const [text, href] of [
    ["Go to http://a.example/x.", "http://a.example/x"],
    ["http://a.example/x, http", "http://a.example/x"],
    ["(http://a.example/x)", "http://a.example/x"],
    ["really http://a.example/x?!", "http://a.example/x"],
    ["<http://a.example/x>:", "http://a.example/x"],
    ['"http://a.example/x", y', "http://a.example/x"],
    ["('http://a.example/x')", "http://a.example/x"],
    ["{'u':'http://a.example/x','v':1}", "http://a.example/x"],
    ["[x](http://a.example/x),[y](z)", "http://a.example/x"],
    ["**http://a.example/x**", "http://a.example/x"],
    ["`http://a.example/x`", "http://a.example/x"],
    ["http://a.example/x。", "http://a.example/x"],
    ["git+https://a.example/x.git", "https://a.example/x.git"],
  ]) {
    assert.deepEqual(hrefs(text), [href], text);
  }
});

test("brackets that were opened in an address belong to it", () => {
  for (const href of [
    "http://a.example/Bar_(x)",
    "http://[::1]:8000/",
    "http://a.example/{id}/y",
    "http://a.example/?f[a]=(b)",
  ]) {
    assert.deepEqual(hrefs(`(${href}).`), [href]);
  }
});

test("controls that turn text around end an address", () => {
  assert.deepEqual(hrefs("http://a.example/\u202egpj.exe"), ["http://a.example/"]);
});

test("what is longer than any address is none", () => {
  assert.deepEqual(hrefs(`http://a.example/${"x".repeat(9000)} http://b.example/`), ["http://b.example/"]);
});

test("a line of a megabyte takes no more than its length deserves", () => {
  for (const part of [
    "://",
    "http://",
    "http://)",
    "http://a(",
    "http://a.",
    "http://a.b ",
    'File "',
    'File "a", line ',
    "x",
  ]) {
    const factor = growth((size) => {
      const text = part.repeat(size / part.length);
      pieces(text);
      fileRefs(text);
    }, 1 << 18);
    assert.ok(factor < LINEAR, `${part}: ${factor} times as much for four times the length`);
  }
});

test("places in files are found as Python names them", () => {
  const text = '  File "/app/x.py", line 12, in run; File "<string>", line 1';
  assert.deepEqual(
    fileRefs(text).map(({ file, line }) => [file, line]),
    [
      ["/app/x.py", 12],
      ["<string>", 1],
    ],
  );
  const [{ start, end }] = fileRefs(text);
  assert.equal(text.slice(start, end), 'File "/app/x.py", line 12');
  assert.deepEqual(fileRefs('Profile "x", line one; File "", line 1'), []);
});
