/**
 * Types that modules share. Nothing here at run time.
 *
 * @typedef {object} Style  How text looks. Interned: the same look is the same object.
 * @property {string} cls  Class names: b bold, d dim, i italic, u underline, s strike, v inverse of the default colours,
 *   f0 to f255 foreground, g0 to g255 background.
 * @property {string} fg  "#rrggbb" for a true colour, else "".
 * @property {string} bg  The same for the background.
 * @property {string} href  Where an OSC 8 link leads (http, https, mailto), else "".
 *
 * @typedef {object} Run  Text of one style.
 * @property {number} length  In UTF-16 units.
 * @property {Style} style
 *
 * @typedef {object} Row  One row of text as a terminal shows it.
 * @property {number} n  Number of the line of output at which the row was begun, from 1.
 * @property {number} time  When the worker read it, ms since 1970.
 * @property {boolean} err  Whether any of it came from stderr.
 * @property {string} text
 * @property {Run[] | null} runs  Lengths add up to that of the text; null: all of it has the default style.
 *
 * @typedef {object} Tag  Whose a row is, among rows of many logs.
 * @property {string} job
 * @property {string} short  The job's id, short if it is one of RQ's own.
 * @property {string} name  Of its function, without its module.
 * @property {string} title  All of it.
 * @property {string} href
 * @property {number} colour
 */
export {};
