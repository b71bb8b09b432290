/** Numbers, sizes and times as people read them. */

const THOUSANDS = new Intl.NumberFormat("en");
const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

/** @param {number} n @returns {string}  Such as "1,284". */
export function count(n) {
  return THOUSANDS.format(n);
}

/** @param {number} n @param {string} noun @param {string} [many] @returns {string}  Such as "1 line", "1,284 lines". */
export function plural(n, noun, many = `${noun}s`) {
  return `${count(n)} ${n === 1 ? noun : many}`;
}

/** @param {number} n @returns {string}  Such as "3rd" or "12th". */
export function ordinal(n) {
  const teen = n % 100 > 10 && n % 100 < 14;
  return `${count(n)}${(!teen && ["th", "st", "nd", "rd"][n % 10]) || "th"}`;
}

/** @param {number} n @returns {string}  Such as "812 B" or "1.4 MiB". */
export function bytes(n) {
  if (n < 1024) return `${n} B`;
  let size = n / 1024;
  let unit = 0;
  for (; size >= 1023.95 && unit < UNITS.length - 1; unit++) size /= 1024;
  return `${size.toFixed(1)} ${UNITS[unit]}`;
}

/** @param {number} seconds @returns {string}  Such as "850 ms", "3.2 s", "1 m 12 s", "2 h 03 m" or "3 d 4 h". */
export function duration(seconds) {
  // Clocks of two machines differ: what ends before it begins took no time.
  if (!(seconds > 0)) return "0 s";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return Number.isInteger(seconds) ? `${seconds} s` : `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} m ${whole % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${String(minutes % 60).padStart(2, "0")} m`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** @param {number} ms  Since 1970. @returns {string}  The time of day here, such as "09:30:00.125". */
export function clock(ms) {
  const date = new Date(ms);
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0"));
  return `${parts.join(":")}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** @param {number} ms @param {number} from  Both since 1970. @returns {string}  Such as "+12.345 s". */
export function relative(ms, from) {
  const seconds = (ms - from) / 1000;
  return `${seconds < 0 ? "−" : "+"}${Math.abs(seconds).toFixed(3)} s`;
}

/** @param {number} ms  Since 1970. @returns {string}  In UTC, such as "2026-11-24T09:30:00.125Z"; "" for no time. */
export function timestamp(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}
