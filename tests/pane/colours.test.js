import assert from "node:assert/strict";
import test from "node:test";

import { contrast, CONTRAST, hex, indexed, paint, PAPER, parse, rules } from "../../tailer/static/colours.js";

const THEMES = /** @type {const} */ (["light", "dark"]);

/** Both sides of "light-dark(#a, #b)", or of "#a". */
function sides(css) {
  const [light, dark = light] = css.match(/#[0-9a-f]{6}/g);
  return { light: parse(light), dark: parse(dark) };
}

const classes = new Map(rules().split("\n").map((rule) => /^\.(\w+)\{(.*)\}$/.exec(rule).slice(1)));

test("every colour of the palette can be read in both themes", () => {
  for (let n = 0; n < 256; n++) {
    const found = sides(classes.get(`f${n}`));
    for (const theme of THEMES) {
      assert.ok(contrast(found[theme], PAPER[theme]) >= CONTRAST, `f${n} ${theme}: ${hex(found[theme])}`);
    }
  }
});

test("text without a colour can be read on every background of the palette", () => {
  for (let n = 0; n < 256; n++) {
    const [behind, front] = classes.get(`g${n}`).split(";");
    const [back, text] = [sides(behind), sides(front)];
    for (const theme of THEMES) assert.ok(contrast(text[theme], back[theme]) >= CONTRAST, `g${n} ${theme}`);
  }
});

test("any colour on any background can be read", () => {
  for (let n = 16; n < 232; n += 7) {
    for (let m = 16; m < 256; m += 5) {
      const style = { cls: "", fg: hex(indexed(n)), bg: hex(indexed(m)), href: "" };
      const front = sides(paint(style).color);
      for (const theme of THEMES) assert.ok(contrast(front[theme], indexed(m)) >= CONTRAST, `${n} on ${m}`);
    }
  }
});

test("the first sixteen can be read on one another", () => {
  for (let n = 0; n < 16; n++) {
    for (let m = 0; m < 16; m++) {
      const front = sides(paint({ cls: `f${n} g${m}`, fg: "", bg: "", href: "" }).color);
      const behind = sides(classes.get(`g${m}`).split(";")[0]);
      for (const theme of THEMES) assert.ok(contrast(front[theme], behind[theme]) >= CONTRAST, `f${n} g${m} ${theme}`);
    }
  }
});

test("a true colour stays what it is where it can be read", () => {
  const style = { cls: "", fg: "#ff8800", bg: "", href: "" };
  assert.equal(hex(sides(paint(style).color).dark), "#ff8800");
  assert.equal(paint(style).backgroundColor, "");
});
