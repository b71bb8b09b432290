/**
 * How many times more four times the work costs: about 4 if the cost grows with the size, 16 if with its square.
 *
 * No time is asked for, so that a slow or busy machine changes nothing. The least of three runs each, in CPU time of
 * this process; `action` is called with the size.
 */
export function growth(action, size) {
  action(size); // the first time, code is compiled
  return least(action, 4 * size) / least(action, size);
}

function least(action, size) {
  return Math.min(...Array.from({ length: 3 }, () => took(() => action(size))));
}

function took(action) {
  const start = process.cpuUsage();
  action();
  const { user, system } = process.cpuUsage(start);
  return user + system;
}

/** Between four times and its square. */
export const LINEAR = 9;
