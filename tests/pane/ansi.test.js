import assert from "node:assert/strict";
import test from "node:test";

import { Screen } from "../../tailer/static/ansi.js";
import { growth, LINEAR } from "./growth.js";

const ESC = "\x1b";

/** Write all at once, or in pieces that end at the given places. */
function screenOf(text, cuts = []) {
  const screen = new Screen();
  let line = 1;
  let from = 0;
  for (const to of [...cuts, text.length]) {
    const piece = text.slice(from, to);
    screen.write(piece, line, 1000 * line, false);
    line += piece.split("\n").length - 1;
    from = to;
  }
  return screen;
}

const rowsOf = (text, cuts) => screenOf(text, cuts).rows;
const textsOf = (text) => rowsOf(text).map((row) => row.text);

/** Such as "[f1|red] plain". */
function drawn(row) {
  if (row.runs === null) return row.text;
  let at = 0;
  return row.runs
    .map(({ length, style }) => {
      const text = row.text.slice(at, (at += length));
      const { cls, fg, bg, href } = style;
      const names = [cls, fg && `fg ${fg}`, bg && `bg ${bg}`, href].filter(Boolean).join(" ");
      return names ? `[${names}|${text}]` : text;
    })
    .join("");
}

/** What a stranger may rely on. */
function assertSound(rows) {
  let n = 0;
  for (const row of rows) {
    assert.ok(row.n > n, `row ${row.n} after ${n}`);
    n = row.n;
    assert.doesNotMatch(row.text, /[\x00-\x1f\x7f-\x9f]/);
    if (row.runs === null) continue;
    assert.equal(row.runs.reduce((sum, run) => sum + run.length, 0), row.text.length);
    assert.ok(row.runs.every((run) => run.length > 0));
    assert.ok(row.runs.every((run, i) => !i || run.style !== row.runs[i - 1].style), "equal neighbours");
    assert.ok(row.runs.some(({ style }) => style.cls || style.fg || style.bg || style.href), "all plain, yet runs");
  }
}

function seeded(seed) {
  return (below) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
}

/** What is printed, and the rows that a terminal shows then. */
const LOOKS = [
  ["plain", "plain"],
  ["\x1b[31mred\x1b[0m plain", "[f1|red] plain"],
  ["\x1b[31mred\x1b[m plain", "[f1|red] plain"],
  ["\x1b[1;32mbold\x1b[22m not", "[b f2|bold][f2| not]"],
  ["\x1b[97;104mbright", "[f15 g12|bright]"],
  ["\x1b[90;47mgrey\x1b[39;49m.", "[f8 g7|grey]."],
  ["\x1b[38;5;208;48;5;17mx", "[f208 g17|x]"],
  ["\x1b[38;2;1;2;255;1mx", "[b fg #0102ff|x]"],
  ["\x1b[48;2;0;0;0mx", "[bg #000000|x]"],
  ["\x1b[38:2::1:2:3mx", "[fg #010203|x]"],
  ["\x1b[38:2:1:2:3mx", "[fg #010203|x]"],
  ["\x1b[38:5:9;1mx", "[b f9|x]"],
  ["\x1b[38;5;256mx", "x"],
  ["\x1b[38;2;1;2;300mx", "x"],
  ["\x1b[38;2;1mx", "x"],
  ["\x1b[38mx\x1b[38;7;1my", "x[b v|y]"],
  ["\x1b[58;2;1;2;3;1mx", "[b|x]"],
  ["\x1b[58:2::1:2:3;1mx", "[b|x]"],
  ["\x1b[2;3;4;9mx", "[d i u s|x]"],
  ["\x1b[2;3;4;9mx\x1b[22;23;24;29my", "[d i u s|x]y"],
  ["\x1b[4:3mx\x1b[4:0my\x1b[21mz\x1b[24m.", "[u|x]y[u|z]."],
  ["\x1b[7mx\x1b[27my", "[v|x]y"],
  ["\x1b[31;42;7mx", "[f2 g1|x]"],
  ["\x1b[31;7mx", "[v g1|x]"],
  ["\x1b[38;2;1;2;3;48;5;4;7mx", "[f4 bg #010203|x]"],
  ["\x1b[5;6;8;10;25;28;53;59;73mx", "x"],
  ["\x1b[31ma\x1b[31mb", "[f1|ab]"],
  ["\x1b]8;;https://a.b/c?d=e;f\x1b\\link\x1b]8;;\x07.", "[https://a.b/c?d=e;f|link]."],
  ["\x1b]8;id=1;mailto:a@b\x07\x1b[1mm\x1b[0mn\x1b]8;;\x07", "[b mailto:a@b|m][mailto:a@b|n]"],
  ["\x1b]8;;javascript:alert(1)\x07x\x1b]8;;\x07", "x"],
  ["\x1b]8;;https://a b\x07x", "x"],
  ["\x1b]8;;file:///etc/passwd\x07x", "x"],
  ["\x1b[31mabc\rx\x1b[0my", "[f1|x]y[f1|c]"],
  ["\x1b[31mabc\x1b[0m\rxyz", "xyz"],
  ["\x1b[31ma\tb", "[f1|a]       [f1|b]"],
  ["\x1b[31m\x1b7\x1b[0ma\x1b8b", "[f1|b]"],
  ["a\x1b[31m\x1bcb", "ab"],
];

const SEQUENCES = [
  ["", []],
  ["a", ["a"]],
  ["a\n", ["a"]],
  ["a\n\nb\r\n", ["a", "", "b"]],
  ["\n", [""]],
  ["abc\rx", ["xbc"]],
  ["abc\r\n\rd", ["abc", "d"]],
  ["ab\b\bcde", ["cde"]],
  ["\b\ba", ["a"]],
  ["a\tb", ["a       b"]],
  ["\t", ["        "]],
  ["a\t\n", ["a       "]],
  ["12345678\tb", ["12345678        b"]],
  ["abcdefghij\r\tX", ["abcdefghXj"]],
  ["abc\r\tX", ["abc     X"]],
  ["\x1b[5C\tx", [`${" ".repeat(8)}x`]],
  ["a\vb\fc", ["a b c"]],
  ["a\nb\x1b[Ac\vd", ["ac", "b d"]],
  ["a\0b\x07c\x7fd\x80e\x85f", ["abcdef"]],
  ["abcdef\x1b[3D\x1b[K", ["abc"]],
  ["abcdef\x1b[3D\x1b[1K", ["    ef"]],
  ["abcdef\x1b[1K", [""]],
  ["abcdef\x1b[2Kx", ["      x"]],
  ["abc\x1b[K\x1b[9C\x1b[K", ["abc"]],
  ["abc\r\x1b[Kx", ["x"]],
  ["a\nb\nc\x1b[2A\x1b[Jd", ["ad", "", ""]],
  ["abc\ndef\nghi\x1b[A\x1b[2D\x1b[2J", ["abc", "", ""]],
  ["abc\ndef\x1b[D\x1b[1Jx", ["abc", "  x"]],
  ["a\nb\n\x1b[H\x1b[2J\x1b[3Jc", ["a", "b", "c"]],
  ["a\nb\nc\x1b[2AX\x1b[BY\x1b[1BZ", ["aX", "b Y", "c  Z"]],
  ["a\n\x1b[5B\x1b[Ab", ["b"]],
  ["a\nb\n\x1b[2F1\x1b[E2\x1b[9Ez", ["1", "2", "z"]],
  ["abc\x1b[2Gx\x1b[5Gy\x1b[1`z", ["zxc y"]],
  ["abc\x1b[7;2Hx\x1b[Hy\x1b[3fz", ["zxc"]],
  ["abc\x1b[99999Cx", [`abc${" ".repeat(997)}x`]],
  ["abc\x1b[99999Gx", [`abc${" ".repeat(997)}x`]],
  [`${"a".repeat(1500)}\x1b[1400Gx\x1b[99Cx\x1b[99Cx`, [`${"a".repeat(1399)}x${"a".repeat(99)}xx`]],
  ["abc\x1b[99Dx", ["xbc"]],
  ["abcdef\r\x1b[2Px", ["xdef"]],
  ["abcdef\r\x1b[2@x", ["x abcdef"]],
  ["abcdef\r\x1b[2Xx", ["x cdef"]],
  ["abc\r\x1b[9X", [""]],
  ["abc\r\x1b[9P", [""]],
  ["abc\r\x1b[99999@", [`${" ".repeat(997)}abc`]],
  ["abc\x1b[4@\x1b[4P\x1b[4X", ["abc"]],
  ["a\nb\x1b8c\x1b[ud", ["a", "bcd"]],
  ["ab\x1b[sc\nd\x1b[ue", ["abe", "d"]],
  ["ab\x1b7c\nd\x1b8e", ["abe", "d"]],
  ["a\nb\x1bMc\x1bDd\x1bEe", ["ac", "e d"]],
  ["\x1b[?25la\x1b[?1049h\x1b[>4;2m\x1b[!p\x1b[1 q\x1b[?2J\x1b[5rb\x1b[L\x1b[M\x1b[t", ["ab"]],
  ["\x1b(B\x1b)0\x1b#8\x1b=\x1b>a\x1b%Gb\x1b\\c", ["abc"]],
  ["\x1b]0;title\x07a\x1b]2;title\x1b\\b\x1b]52;c;abc\x9cc", ["abc"]],
  ["\x1bP1$r0m\x1b\\a\x1b_G;x\x1b\\b\x1b^x\x1b\\c\x1bXx\x1b\\d\x1bktitle\x1b\\e", ["abcde"]],
  ["a\x1b]0;never ended\nb", ["a", "b"]],
  ["a\x1b]0;broken \x1b[31mb", ["ab"]],
  ["a\x1b[31\nb", ["a", "b"]],
  ["a\x1b\nb", ["a", "b"]],
  ["a\x1bé\x1b\x1b[mb", ["aéb"]],
  ["a\x1b[3é", ["aé"]],
  ["a\x1b[\x18b", ["ab"]],
  ["\x9b31ma\x9d8;;b", ["a8;;b"]],
  [`\x1b]${"x".repeat(4096)}yes`, ["yes"]],
  [`\x1b[${"1".repeat(256)}2mx`, ["2mx"]],
  [`\x1b${" ".repeat(8)} x`, [" x"]],
  ["漢字\rx", ["x 字"]],
  ["漢字\x1b[2Gx", [" x字"]],
  ["漢字\x1b[4Gx", ["漢 x"]],
  ["abcd\r漢", ["漢cd"]],
  ["👍👍 ok\r\x1b[2Cab", ["👍ab ok"]],
  ["e\u0301tude\rE", ["Etude"]],
  ["e\u0301tude\x1b[2GT", ["e\u0301Tude"]],
  ["ab\re\u0301", ["e\u0301b"]],
  ["🇩🇪x\x1b[3Gy", ["🇩🇪y"]],
  ["▏▎█⠋━→\r12345", ["12345→"]],
  ["\u202eabc\u2066\u200f\u061c", ["\u202eabc\u2066\u200f\u061c"]],
  ["\u202eabc\r\u202exyz", ["\u202exyz"]],
];

test("colours and attributes in all their forms become runs", () => {
  for (const [text, expected] of LOOKS) {
    const rows = rowsOf(text);
    assert.deepEqual(rows.map(drawn), [expected], JSON.stringify(text));
    assertSound(rows);
  }
});

test("rows read as on a terminal's screen", () => {
  for (const [text, expected] of SEQUENCES) {
    assert.deepEqual(textsOf(text), expected, JSON.stringify(text));
    assertSound(rowsOf(text));
  }
});

test("the same look is the same object, and the default look needs no runs", () => {
  const [a, b] = [rowsOf("\x1b[1;31mx"), rowsOf("\x1b[31m\x1b[1mx")].map(([row]) => row.runs[0].style);
  assert.equal(a, b);
  assert.equal(rowsOf("\x1b[31;42;7mx")[0].runs[0].style, rowsOf("\x1b[32;41mx")[0].runs[0].style);
  assert.equal(rowsOf("\x1b[31m\x1b[0mx")[0].runs, null);
  assert.equal(rowsOf("\x1b[31mx\x1b[2K")[0].runs, null);
});

test("more looks than are remembered change no row", () => {
  const colours = Array.from({ length: 70_000 }, (_, i) => `${i >> 16};${(i >> 8) & 255};${i & 255}`);
  const screen = screenOf(colours.map((colour) => `\x1b[38;2;${colour}mx\x1b[0my`).join(""));
  const [row] = screen.rows;
  assertSound([row]);
  assert.equal(row.runs.length, 140_000);
  assert.equal(row.runs[139_998].style.fg, "#01116f");
  assert.deepEqual(row.runs[139_999].style, { cls: "", fg: "", bg: "", href: "" });
  assert.equal(rowsOf("\x1b[1mx\x1b[0my")[0].runs[1].style, row.runs[1].style);
});

test("a row has the number of the line in which it was begun, its time, and whether stderr wrote to it", () => {
  const screen = new Screen();
  screen.write("a\nb", 7, 10, false);
  screen.write("c\n", 8, 20, true);
  screen.write("d\x1b[A\rx\n", 9, 30, false);
  screen.write("\n\n", 10, 40, true);
  assert.deepEqual(
    screen.take().added.map(({ n, time, err, text }) => [n, time, err, text]),
    [
      [7, 10, false, "a"],
      [8, 10, true, "xc"],
      [9, 30, false, "d"],
      [11, 40, true, ""],
    ],
  );
});

test("text erased from a row takes the mark of stderr with it", () => {
  const screen = new Screen();
  screen.write("10 %\r\x1b[K", 1, 0, true);
  screen.write("done\n", 1, 0, false);
  assert.equal(screen.rows[0].err, false);
  screen.write("10 %", 2, 0, true);
  screen.write("\rdone", 2, 0, false);
  assert.equal(screen.rows[1].err, true);
});

test("take tells new rows in order, and older ones that changed, once", () => {
  const screen = new Screen();
  screen.write("a\nb\nc", 1, 0, false);
  const first = screen.take();
  assert.deepEqual(first.added.map((row) => row.text), ["a", "b", "c"]);
  assert.equal(first.touched.size, 0);
  assert.deepEqual(screen.take(), { added: [], touched: new Set() });
  screen.write("!\nd\x1b[2A?", 3, 0, false);
  const { added, touched } = screen.take();
  assert.deepEqual(added.map((row) => row.text), ["d"]);
  assert.deepEqual([...touched], [first.added[2], first.added[1]]);
  assert.deepEqual(first.added.map((row) => row.text), ["a", "b?", "c!"]);
  screen.write("\x1b[K\x1b[m\x1b[A\x1b[B\x1b[9C\r", 4, 0, false);
  assert.equal(screen.take().touched.size, 0);
});

test("only the last hundred rows can be reached", () => {
  for (const count of [50, 150, 199, 200, 201, 1000]) {
    const { rows, live } = screenOf(`${"x\n".repeat(count)}\x1b[9999A!`);
    assert.equal(live, 100);
    const reached = rows.findIndex((row) => row.text === "!");
    assert.equal(rows.length - reached, Math.min(count, 100), `${count}`);
    const saved = screenOf(`\x1b7${"x\n".repeat(count)}\x1b8!`).rows;
    assert.equal(saved.length - saved.findIndex((row) => row.text === "!"), Math.min(count, 100), `${count}`);
  }
});

test("an erased GitLab section marker stays on its row", () => {
  const start = "section_start:1560896352:my_section[collapsed=true]";
  const rows = rowsOf(`${start}\r${ESC}[0KHeader\ntext\nsection_end:1560896353:my_section\r${ESC}[0K\nx\r${ESC}[K`);
  assert.deepEqual(
    rows.map(({ text, mark }) => [text, mark]),
    [
      ["Header", start],
      ["text", undefined],
      ["", "section_end:1560896353:my_section"],
      ["", undefined],
    ],
  );
});

test("a sequence of one stream goes on behind text of the other", () => {
  const screen = new Screen();
  screen.write("a\x1b[3", 1, 0, false);
  screen.write("oops\n", 1, 0, true);
  screen.write("1mb", 2, 0, false);
  assert.deepEqual(screen.rows.map(drawn), ["aoops", "[f1|b]"]);
});

test("reset forgets all rows, the look and an unfinished sequence", () => {
  const screen = screenOf("a\n\x1b[31mb\x1b[A\x1b[");
  screen.reset(41);
  screen.write("m", 41, 5, false);
  assert.deepEqual(screen.take(), {
    added: [{ n: 41, time: 5, err: false, text: "m", runs: null }],
    touched: new Set(),
  });
});

const TQDM =
  "\repochs:   0%|         | 0/2 [00:00<?, ?it/s]\r\n\repoch 0:   0%|        | 0/2 [00:00<?, ?it/s]\x1b[A" +
  "\r\n\repoch 0:  50%|▌| 1/2 [00:00<00:00, 299593.14\x1b[A\r\n" +
  "\repoch 0: 100%|█| 2/2 [00:00<00:00, 12297.89i\x1b[A\r                                            " +
  "\r\r\n\r                                            \r\x1b[Aa note" +
  "\r\n\repochs:   0%|         | 0/2 [00:00<?, ?it/s]\r\n\repoch 0: 100%|█| 2/2 [00:00<00:00, 12297.89i\x1b[A" +
  "\r\n\r                                            \x1b[A\repochs:  50%|▌| 1/2 [00:00<00:00, 1111.66it/" +
  "\r\n\repoch 1:   0%|        | 0/2 [00:00<?, ?it/s]\x1b[A\r\n" +
  "\repoch 1:  50%|▌| 1/2 [00:00<00:00, 41120.63i\x1b[A\r\n\repoch 1: 100%|█| 2/2 [00:00<00:00, 15320.84i\x1b[A" +
  "\r\n\r                                            \x1b[A\repochs: 100%|█| 2/2 [00:00<00:00, 1505.21it/" +
  "\repochs: 100%|█| 2/2 [00:00<00:00, 1329.63it/\r\ndone\r\n";
const RICH =
  "\x1b[?25l\r\x1b[2Kfetch \x1b[38;5;237m━━━━━━━━━━━\x1b[0m \x1b[35m  0%\x1b[0m \x1b[36m-:--:--\x1b[0m" +
  "\r\x1b[2Kfetch \x1b[38;5;237m━━━━━━━━━━━\x1b[0m \x1b[35m  0%\x1b[0m \x1b[36m-:--:--\x1b[0m" +
  "\r\n\x1b[31mbuild\x1b[0m \x1b[38;5;237m━━━━━━━━━━━\x1b[0m \x1b[35m  0%\x1b[0m \x1b[36m-:--:--\x1b[0m" +
  "\r\x1b[2K\x1b[1A\x1b[2Ka \x1b[1mnote\x1b[0m\r\nfetch \x1b[38;5;237m━━━━━━━━━━━\x1b[0m \x1b[35m  0%\x1b[0m " +
  "\x1b[36m-:--:--\x1b[0m\r\n\x1b[31mbuild\x1b[0m \x1b[38;5;237m━━━━━━━━━━━\x1b[0m \x1b[35m  0%\x1b[0m \x1b[36m" +
  "-:--:--\x1b[0m\r\x1b[2K\x1b[1A\x1b[2Kfetch \x1b[38;2;249;38;114m━━━━━\x1b[0m\x1b[38;2;249;38;114m╸\x1b[0m" +
  "\x1b[38;5;237m━━━━━\x1b[0m \x1b[35m 50%\x1b[0m \x1b[36m-:--:--\x1b[0m" +
  "\r\n\x1b[31mbuild\x1b[0m \x1b[38;2;249;38;114m━━\x1b[0m\x1b[38;2;249;38;114m╸\x1b[0m\x1b[38;5;237m━━━━━━━━" +
  "\x1b[0m \x1b[35m 25%\x1b[0m \x1b[36m-:--:--\x1b[0m\r\x1b[2K\x1b[1A\x1b[2Kfetch \x1b[38;2;249;38;114m━━━━━" +
  "\x1b[0m\x1b[38;2;249;38;114m╸\x1b[0m\x1b[38;5;237m━━━━━\x1b[0m \x1b[35m 50%\x1b[0m \x1b[36m-:--:--\x1b[0m" +
  "\r\n\x1b[31mbuild\x1b[0m \x1b[38;2;249;38;114m━━\x1b[0m\x1b[38;2;249;38;114m╸\x1b[0m\x1b[38;5;237m━━━━━━━━" +
  "\x1b[0m \x1b[35m 25%\x1b[0m \x1b[36m-:--:--\x1b[0m\r\n\x1b[?25h\x1b[32mdone\x1b[0m" +
  "\r\n";
const RICH_TRANSIENT =
  "start\r\n\x1b[?25l\r\x1b[2Kfetch \x1b[90m━━━━━━━━━━━\x1b[0m \x1b[35m  0%\x1b[0m \x1b[36m-:--:--\x1b[0m" +
  "\r\x1b[2Kfetch \x1b[90m━━━━━━━━━━━\x1b[0m \x1b[35m  0%\x1b[0m \x1b[36m-:--:--\x1b[0m" +
  "\r\x1b[2Kfetch \x1b[91m━━━━━\x1b[0m\x1b[91m╸\x1b[0m\x1b[90m━━━━━\x1b[0m \x1b[35m 50%\x1b[0m \x1b[36m-:--:--" +
  "\x1b[0m\r\x1b[2Kfetch \x1b[91m━━━━━\x1b[0m\x1b[91m╸\x1b[0m\x1b[90m━━━━━\x1b[0m \x1b[35m 50%\x1b[0m \x1b[36m-" +
  ":--:--\x1b[0m\r\n\x1b[?25h\r\x1b[1A\x1b[2K\x1b[?25l\x1b[32m⠋\x1b[0m busy" +
  "\r\n\x1b[?25h\r\x1b[1A\x1b[2Kdone\r\n";

test("tqdm's bars read as on a terminal", () => {
  const rows = rowsOf(TQDM);
  assert.deepEqual(
    rows.map((row) => row.text.trimEnd()),
    ["a note", "epochs: 100%|█| 2/2 [00:00<00:00, 1329.63it/", "done"],
  );
});

test("rich's bars read as on a terminal", () => {
  assert.deepEqual(rowsOf(RICH).map(drawn), [
    "a [b|note]",
    "fetch [fg #f92672|━━━━━╸][f237|━━━━━] [f5| 50%] [f6|-:--:--]",
    "[f1|build] [fg #f92672|━━╸][f237|━━━━━━━━] [f5| 25%] [f6|-:--:--]",
    "[f2|done]",
  ]);
  assert.deepEqual(rowsOf(RICH_TRANSIENT).map(drawn), ["start", "done"]);
});

test("bars that a program repaints from the top, as docker does, stay where they are", () => {
  const frame = (percent) => ["web", "db", "cache"].map((name) => `\x1b[2K ${name} ${percent}%\r\n`).join("");
  const { rows } = screenOf(`pulling\r\n${[0, 50, 100].map(frame).join("\x1b[3A")}done\r\n`);
  assert.deepEqual(rows.map((row) => row.text), ["pulling", " web 100%", " db 100%", " cache 100%", "done"]);
  assert.deepEqual(rows.map((row) => row.n), [1, 2, 3, 4, 11]);
});

test("it does not matter where the text is cut", () => {
  const wild =
    "漢\x1b[1m👍\re\u0301\u202e\b\u0301\x1b]8;;https://a.b\x1b\\l\x1b]8;;\x07\tx\x1b[2K\n" +
    "\x1b[A\ry\x1b[38:2::1:2:3mz\x1b[2P\r\u0301x\r\u200ey\r\u200ez";
  const texts = [...LOOKS, ...SEQUENCES].map(([text]) => text).filter((text) => text.length < 500);
  for (const text of [...texts, texts.join("\n"), TQDM, RICH, RICH_TRANSIENT, wild]) {
    // The time of a row is that of its first piece.
    const plain = (rows) => rows.map((row) => ({ ...row, time: 0 }));
    const whole = plain(rowsOf(text));
    for (let i = 0; i <= text.length; i++) assert.deepEqual(plain(rowsOf(text, [i])), whole, `${i}: ${text}`);
    const all = Array.from({ length: text.length }, (_, i) => i);
    assert.deepEqual(plain(rowsOf(text, all)), whole, JSON.stringify(text));
  }
});

const PIECES = [
  ..."abc xyz漢字é█👍",
  ..."\r\n\n\b\t",
  ...["e\u0301", "hello", "a longer piece of text", "\r\n", "漢字漢字"],
  ...["\x1b[31m", "\x1b[42m", "\x1b[0m", "\x1b[m", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[J", "\x1b[2J", "\x1b[1J"],
  ...["\x1b[A", "\x1b[3A", "\x1b[B", "\x1b[2B", "\x1b[C", "\x1b[7C", "\x1b[D", "\x1b[4D", "\x1b[5G", "\x1b[E"],
  ...["\x1b[F", "\x1b[X", "\x1b[3X", "\x1b[P", "\x1b[2P", "\x1b[@", "\x1b[3@", "\x1b[9;3H", "\x1b[?25l", "\x1b]0;\x07"],
];

/** A slow and simple screen: rows of cells, a wide character being a cell and an empty one. */
class Grid {
  rows = [];
  y = 0;
  x = 0;
  bottom = 0;
  colour = ["", ""];

  put(character) {
    if (/\p{M}/u.test(character)) {
      const cells = this.rows[this.y];
      cells[cells[this.x - 1].text ? this.x - 1 : this.x - 2].text += character;
      return;
    }
    const wide = /[漢字👍]/u.test(character);
    this.rows[this.y] ??= [];
    const cells = this.rows[this.y];
    while (cells.length < this.x) cells.push(this.blank());
    this.halve(this.x);
    this.halve(this.x + (wide ? 2 : 1));
    const cls = [this.colour[0] && "f1", this.colour[1] && "g2"].filter(Boolean).join(" ");
    cells[this.x++] = { text: character, cls };
    if (wide) cells[this.x++] = { text: "", cls };
  }

  blank = () => ({ text: " ", cls: "" });

  /** Let no wide character lie across the edge before a column. */
  halve(x) {
    const cells = this.rows[this.y];
    if (cells?.[x]?.text === "") cells.splice(x - 1, 2, this.blank(), this.blank());
  }

  erase(from, to) {
    const cells = this.rows[this.y] ?? [];
    if (from < cells.length) this.halve(from);
    this.halve(to);
    if (to >= cells.length) cells.length = Math.min(cells.length, from);
    else for (let x = from; x < to; x++) cells[x] = this.blank();
    if (cells.every((cell) => cell.text === " ") && from === 0 && to >= cells.length) cells.length = 0;
  }

  go(y) {
    this.y = Math.min(Math.max(y, this.rows.length - 100, 0), this.bottom);
  }

  write(piece) {
    const [, count, final] = /^\x1b\[(\d*)[\d;]*([@-Z])$/.exec(piece) ?? [];
    const n = Number(count || 1);
    const cells = this.rows[this.y] ?? [];
    if (piece === "\r") this.x = 0;
    else if (piece === "\b") this.x = Math.max(0, this.x - 1);
    else if (piece === "\r\n" || piece === "\n") {
      this.rows[this.y] ??= [];
      this.x = 0;
      this.bottom = Math.max(this.bottom, ++this.y);
    } else if (piece === "\t") {
      const to = this.x + 8 - (this.x % 8);
      if (this.x < cells.length) this.x = to;
      else {
        const { colour } = this;
        this.colour = ["", ""];
        while (this.x < to) this.put(" ");
        this.colour = colour;
      }
    } else if (piece === "\x1b[31m") this.colour = ["f1", this.colour[1]];
    else if (piece === "\x1b[42m") this.colour = [this.colour[0], "g2"];
    else if (piece.endsWith("m")) this.colour = ["", ""];
    else if (final === "A") this.go(this.y - n);
    else if (final === "B") this.go(this.y + n);
    else if (final === "C") this.x += n;
    else if (final === "D") this.x = Math.max(0, this.x - n);
    else if (final === "G") this.x = n - 1;
    else if (final === "H") this.x = 2;
    else if (final === "E" || final === "F") {
      this.go(this.y + (final === "E" ? n : -n));
      this.x = 0;
    } else if (final === "K" || final === "J") {
      if (count === "") this.erase(this.x, Infinity);
      else this.erase(0, count === "1" ? this.x + 1 : Infinity);
      if (final === "J" && count !== "1") for (let y = this.y + 1; y < this.rows.length; y++) this.rows[y] = [];
    } else if (final === "X") this.erase(this.x, this.x + n);
    else if (final && this.x < cells.length) {
      this.halve(this.x);
      if (final === "P") this.halve(this.x + n);
      if (final === "P") cells.splice(this.x, n);
      else cells.splice(this.x, 0, ...Array.from({ length: n }, this.blank));
    } else if (!final && !piece.startsWith("\x1b")) for (const character of piece) this.put(character);
  }
}

/** Text and looks, without blanks at the end. */
function seen(cells) {
  while (cells.length && cells.at(-1).text === " " && !cells.at(-1).cls) cells.pop();
  return cells.map(({ text, cls }) => (text && cls ? `${text}{${cls}}` : text)).join("");
}

function cellsOf(row) {
  const runs = row.runs ?? [{ length: row.text.length, style: { cls: "" } }];
  let at = 0;
  return runs.flatMap(({ length, style }) =>
    [...row.text.slice(at, (at += length)).matchAll(/.\p{M}*/gsu)].map(([text]) => ({ text, cls: style.cls })),
  );
}

test("random output gives the rows of a slow and simple screen, however it is cut", () => {
  for (let seed = 1; seed <= 400; seed++) {
    const random = seeded(seed);
    const pieces = Array.from({ length: 60 + random(seed % 10 ? 60 : 600) }, () => PIECES[random(PIECES.length)]);
    const text = pieces.join("");
    const grid = new Grid();
    for (const piece of pieces) grid.write(piece);
    const cuts = Array.from({ length: random(8) }, () => random(text.length)).sort((a, b) => a - b);
    const screen = screenOf(text, cuts);
    const { added } = screen.take();
    assertSound(added);
    assert.deepEqual(added.map((row) => seen(cellsOf(row))), grid.rows.map(seen), `seed ${seed}`);
  }
});

test("random bytes do no harm, and no change goes untold", () => {
  const bits = ["\x1b[", "\x1b]", "\x1b]8;;http://a", "\x1bP", "\x07", "\x1b\\", ";", ":", "m", "1", "38", "2", "5"];
  for (let seed = 1; seed <= 150; seed++) {
    const random = seeded(seed);
    const screen = new Screen();
    /** @type {Map<object, string>} */
    const shown = new Map();
    let line = 1;
    for (let i = 0; i < 40; i++) {
      let text = "";
      for (let length = random(50); length > 0; length--) {
        const kind = random(4);
        if (kind === 0) text += PIECES[random(PIECES.length)];
        else if (kind === 1) text += bits[random(bits.length)];
        else text += String.fromCharCode(random(kind === 2 ? 0x100 : 0x10000));
      }
      screen.write(text, line, 0, random(2) === 1);
      line += text.split("\n").length - 1;
      const { added, touched } = screen.take();
      for (const row of [...added, ...touched]) shown.set(row, JSON.stringify(row));
      for (const row of added) assert.ok(row.n <= line && !touched.has(row));
      assertSound(shown.keys());
      for (const [row, was] of shown) assert.equal(JSON.stringify(row), was, `seed ${seed}: changed without a word`);
    }
    // Below what the cursor has reached, each line feed makes a row with the number of its line.
    screen.write("\n".repeat(120), line, 0, false);
    assert.equal(screen.rows.at(-1).n, line + 119);
  }
});

test("a long line in many pieces costs what its length deserves", () => {
  for (const piece of ["x", "\x1b[31mab\x1b[0mcd", "漢字", "1234567\tb"]) {
    const chunk = piece.repeat(10_000 / piece.length);
    const factor = growth((count) => {
      const screen = new Screen();
      for (let i = 0; i < count; i++) {
        screen.write(chunk, 1, 0, false);
        screen.take();
      }
      assert.equal(screen.rows.length, 1);
    }, 50);
    assert.ok(factor < LINEAR, `${JSON.stringify(piece)}: ${factor} times as much for four times the length`);
  }
});

test("each repaint of a bar costs as much as the one before", () => {
  const bars = [
    (i) => `\r${String(i % 101).padStart(3)}%|${"█".repeat(i % 50).padEnd(50)}| ${i}/100000 [00:01<00:02]`,
    (i) => `\r\x1b[K\x1b[32m${"━".repeat(i % 40)}\x1b[90m${"━".repeat(40 - (i % 40))}\x1b[0m \x1b[35m${i % 101}%\x1b[m`,
  ];
  for (const bar of bars) {
    const factor = growth((count) => {
      const screen = new Screen();
      for (let i = 0; i < count; i++) screen.write(bar(i), 1, 0, false);
      assert.equal(screen.rows.length, 1);
    }, 5000);
    assert.ok(factor < LINEAR, `${factor} times as much for four times the repaints`);
  }
});

test("marks that belong to no cell do not heap up in a repainted row", () => {
  assert.deepEqual(textsOf("\r\u200e".repeat(1000)), ["\u200e"]);
  assert.deepEqual(textsOf("\r\u200e50%".repeat(1000)), ["\u200e50%"]);
});

test("a repaint of a long row of many looks costs no more than its length", () => {
  const factor = growth((count) => {
    const segments = "\x1b[32mab\x1b[0mcd".repeat(count);
    screenOf(`${segments}\r${segments}`);
  }, 5000);
  assert.ok(factor < LINEAR, `${factor} times as much for four times the length`);
});
