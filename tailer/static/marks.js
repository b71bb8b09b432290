/** What a line means: its level, a mark of a group, a part of a traceback, or JSON. */

/** @typedef {"error" | "warning" | "info" | "debug" | ""} Level */

/** What tells of a level stands at the front. */
const FRONT = 200;
const MOST_JSON = 1024 * 1024;

/** Nearly all lines have none of these, and are done with. */
const ANY = /err|warn|crit|fatal|panic|exce|inter|info|debug|trace|notice|succ|level|sever|alert|emerg|verbose/i;

/** @type {Map<string, Level>} */
const NAMES = new Map([
  .../** @type {const} */ ([
    ["error", "error err eror critical crit fatal panic dpanic alert emerg emergency severe exception"],
    ["warning", "warning warn"],
    ["info", "info information notice success"],
    ["debug", "debug trace verbose"],
  ]).flatMap(([level, names]) => names.split(" ").map((name) => /** @type {[string, Level]} */ ([name, level]))),
]);
/** Of bunyan and pino. @type {Record<string, Level>} */
const NUMBERS = { 10: "debug", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "error" };
/** Longer names first: else "ERROR" would be "ERR" and something. */
const UPPER = [...NAMES.keys()].map((name) => name.toUpperCase()).sort((a, b) => b.length - a.length).join("|");
const LOWER = UPPER.toLowerCase();

/** `level=error`, `"levelname": "ERROR"`, and `"level":50` of JSON. */
const FIELD = new RegExp(
  "(?:^|[\\s{,\"'.(])(?:log[_.]?)?(?:level|lvl|severity|levelname)" +
    "(?:\"\\s*:\\s*(\\d0)\\b|[\"']?\\s*[=:]\\s*[\"']?([A-Za-z]+)\\b)",
);
/** `ERROR:root:`, `[ERROR]`, `INFO     …`: in front of all. */
const FIRST = new RegExp(`^\\s{0,40}[[(|<*#-]{0,4}\\s{0,8}(${UPPER})(?=[\\s:\\])>|!/,;*-]|$)(?!-\\w)`);
/** `2026-11-24 10:00:00,123 app ERROR …`: within a few words behind a time. */
const TIMED = new RegExp(
  `^.{0,30}?\\d\\d:\\d\\d\\S{0,40}\\s+(?:\\S{1,60}\\s+){0,5}?[[(<|]?(${UPPER})(?=[\\s\\]:|>)/-]|$)(?!-\\w)`,
);
/** `| ERROR    |`, `: ERROR/Main`, `npm ERR!`: among signs that set it apart. */
const APART = new RegExp(`(?:[[(|<]\\s{0,8}|\\s)(${UPPER})(?:\\s{0,8}[\\])|>]|[:/!]|\\s{1,2}-\\s)`);
/** `[error]`, `[warning  ]`. */
const BRACKETED = new RegExp(`^(?:.{0,60}?[\\s\\])>|])??\\[(${LOWER})\\s{0,8}\\]`, "i");
/** `error: …`, `Warning: …`, `ld: fatal error: …`, `x.c:3:5: warning: …`, `error[E0382]: …`, `error TS2304: …`. */
const SAID = new RegExp(
  "^(?:[^\\s:][^:]{0,100}(?::\\d+){0,2}: )?(?:[Ff]atal )?" +
    "([Ee]rror|[Ww]arning|[Ff]atal|[Pp]anic|[Cc]ritical|[Ii]nfo|[Dd]ebug|[Nn]otice)" +
    "(?:\\[\\w+\\]| [A-Z]{1,4}\\d+)?:(?=\\s|$)",
);
/** On stderr a bare word is enough. */
const ALONE = new RegExp(`(?:^|\\s)(${UPPER})(?=\\s|$)`);
/** `pkg.SomeError: …` and such at the end of a traceback, and what other languages say. */
const RAISED = /^[\s|]*(?:\w+\.)*(?:[A-Z]\w*(?:Error|Exception|ExceptionGroup)|KeyboardInterrupt|Exception)(?::\s|:?$)/;
const THROWN = /^\s*(?:Exception in thread |Caused by: |Uncaught |Unhandled |thread '.*' panicked )/;
/** `x.py:3: UserWarning: …`. */
const WARNED = /^(?:\S.{0,150}:\d+: |(?:\w+\.)*)[A-Z]\w*Warning: /;
/** "no ERROR", "0 ERROR" are good news; "error: none" and "Error: 0.03" are figures. */
const DENIED = /(?:^|[\s([])(?:no|0|zero|without|any|non)[\s-]+$/i;
const FIGURE = /^:\s*(?:(?:0|none|no|null|false|nil)\s*(?:$|[,;)\]])|-?\d*\.\d+(?:e[+-]?\d+)?%?(?:$|[\s,;)\]]))/i;

/**
 * The level that a line says it has. Prose about errors has none.
 *
 * @param {string} text
 * @param {boolean} [err]  It came from stderr.
 * @returns {Level}
 */
export function level(text, err = false) {
  const front = text.length > FRONT ? text.slice(0, FRONT) : text;
  if (!ANY.test(front)) return letter(front);
  const field = /lev|lvl|sever/.test(front) ? FIELD.exec(front) : null;
  const named = field && (field[1] ? NUMBERS[field[1]] : NAMES.get(field[2].toLowerCase()));
  if (named) return named;
  if (front.startsWith("Traceback (most recent call last):")) return "error";
  for (const form of err ? ON_STDERR : FORMS) {
    const match = form.exec(front);
    if (match && !denied(front, match, form)) return NAMES.get(match[1].toLowerCase()) ?? "";
  }
  if (RAISED.test(front) || THROWN.test(front)) return "error";
  return WARNED.test(front) ? "warning" : letter(front);
}
const FORMS = [FIRST, TIMED, APART, BRACKETED, SAID];
const ON_STDERR = [...FORMS, ALONE];

/** @param {string} front @param {RegExpExecArray} match @param {RegExp} form @returns {boolean} */
function denied(front, match, form) {
  const start = match.index + match[0].lastIndexOf(match[1]);
  if (form === SAID) return FIGURE.test(front.slice(start + match[1].length));
  return DENIED.test(front.slice(0, start));
}

/** @param {string} front @returns {Level}  Of `E1124 10:00:00.000000 …`, as glog writes it. */
function letter(front) {
  const code = front.charCodeAt(1);
  if (!(code >= 48 && code <= 57) || !/^[EFWI]\d{4} \d\d:\d\d/.test(front)) return "";
  return front[0] === "W" ? "warning" : front[0] === "I" ? "info" : "error";
}

const SECTION = /^section_(start|end):(\d{1,12}):([\w.-]{1,200})(?:\[([^\]\r]{0,200})\])?\r?(?:\x1b?\[0K)?(.*)$/s;

/**
 * @param {string} text
 * @returns {{kind: "start" | "end", title: string, name: string, collapsed: boolean, time: number} | null}
 *   What begins or ends here: a group of GitHub's, or a section of GitLab's, with its unix time (else 0).
 */
export function groupMark(text) {
  const first = text.charCodeAt(0);
  if (first === 58 && text.startsWith("::")) {
    if (text.startsWith("::group::")) {
      return { kind: "start", title: text.slice(9).trim(), name: "", collapsed: false, time: 0 };
    }
    if (text.startsWith("::endgroup::")) return { kind: "end", title: "", name: "", collapsed: false, time: 0 };
  }
  const match = first === 115 && text.startsWith("section_") ? SECTION.exec(text) : null;
  if (!match) return null;
  const [, kind, time, name, options = "", header] = match;
  return {
    kind: kind === "start" ? "start" : "end",
    title: kind === "start" ? header.trim() || name : "",
    name,
    collapsed: options.split(",").includes("collapsed=true"),
    time: Number(time),
  };
}

const HEAD = "Traceback (most recent call last):";
const HEADED = /^([\s|]*)Traceback/;
const FRAME = /^\s+File "([^"]*)", line \d/;
/** Python's own files, and packages that were installed. */
const FOREIGN = /[\\/](?:site|dist)-packages[\\/]|[\\/]lib[\\/]python3|^<frozen |^\/usr\/lib\//i;
const EXCEPTION = /^[^\s:]+(?::\s|:?$)/;
const CHAINED = /^(?:During handling of the above exception, another|The above exception was the direct cause of)/;

/** @typedef {{inside: boolean, dim: boolean, first: boolean, last: boolean}} Part */

/** @param {Partial<Part>} part @returns {Readonly<Part>} */
const part = (part) => Object.freeze({ inside: true, dim: false, first: false, last: false, ...part });
const OUTSIDE = part({ inside: false });
const INSIDE = part({});
const DIM = part({ dim: true });
const FIRST_ROW = part({ first: true });
const LAST_ROW = part({ last: true });

/** Tells of rows, one after the other, which belong to a traceback of Python's. */
export class Tracebacks {
  constructor() {
    /** In a traceback: what stands before each of its rows. @type {string | null} */
    this.margin = null;
    this.foreign = false;
    /** Behind an exception that a group holds more of. */
    this.group = false;
    /** Behind the sentence that leads to the next one of a chain. */
    this.chained = false;
  }

  /**
   * @param {string} text  The next row.
   * @returns {Readonly<Part>}  inside: it belongs to one; dim: to a frame outside the app; first: it is the head (in
   *   a chain, of the first one); last: it names the exception.
   */
  next(text) {
    if (text.endsWith(HEAD)) return this.begin(text);
    if (this.margin !== null) return this.frame(text, this.margin);
    if (this.group && /^\s*[|+]/.test(text)) return INSIDE;
    this.group = false;
    if (this.chained && text === "") return INSIDE;
    this.chained = CHAINED.test(text);
    return this.chained ? INSIDE : OUTSIDE;
  }

  /** @param {string} text */
  begin(text) {
    const inGroup = this.group && /^\s*\|/.test(text);
    const inner = this.chained || inGroup;
    this.group = inGroup || text.includes("+ Exception Group ");
    // Behind a logger's words, or those of another program, the rows that follow have no margin.
    this.margin = this.group ? "" : HEADED.exec(text)?.[1] ?? "";
    this.chained = false;
    this.foreign = false;
    return inner ? INSIDE : FIRST_ROW;
  }

  /** @param {string} text @param {string} margin */
  frame(text, margin) {
    const aligned = text.startsWith(margin);
    if (!aligned && text.trim() !== "") return this.end(text, aligned);
    const row = this.group ? text.replace(/^\s*[|+] ?/, "") : text.slice(margin.length);
    const match = FRAME.exec(row);
    if (match) this.foreign = FOREIGN.test(match[1]);
    else if (/^\S/.test(row)) return this.end(row, aligned);
    return this.foreign ? DIM : INSIDE;
  }

  /** @param {string} row @param {boolean} aligned */
  end(row, aligned) {
    this.margin = null;
    if (aligned && EXCEPTION.test(row)) return LAST_ROW;
    // Something else: the traceback was cut off.
    this.group = false;
    return OUTSIDE;
  }
}

/**
 * @param {string} text
 * @returns {object | null}  The object or array that a line consists of.
 */
export function jsonOf(text) {
  if (text.length > MOST_JSON) return null;
  const line = text.trim();
  const ends = line.charAt(0) + line.charAt(line.length - 1);
  if (ends !== "{}" && ends !== "[]") return null;
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
