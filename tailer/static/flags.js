/** What is known of a row, as bits of its `flags`. */

export const ERROR = 1;
export const WARNING = 2;
export const INFO = 4;
export const DEBUG = 8;
export const TRACEBACK = 16;
export const FOREIGN = 32;
export const TRACEBACK_START = 64;
export const TRACEBACK_END = 128;
export const GROUP_START = 256;
export const GROUP_END = 512;
export const HOLE = 1024;
/** It repeats the row before it, and is folded into the first of them. */
export const REPEATED = 2048;
/** The filter does not want it. */
export const SIFTED = 4096;
