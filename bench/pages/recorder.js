// Notes when each frame came, and each second how many lines are shown. Times are ms since 1970.
(/** @type {string} */ kind) => {
  const epoch = Date.now() - performance.now();
  const now = () => epoch + performance.now();
  const last = () => document.querySelector("tailer-log").pane.view.lines.lastElementChild?.lastElementChild;
  const shown = kind === "pane" ? () => Number(last()?.firstChild.dataset.n ?? 0) : () => window.peer.shown;
  const frames = [];
  const samples = [];
  window.bench = { frames, samples, shown, now };
  const frame = () => {
    frames.push(now());
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  setInterval(() => samples.push([now(), shown()]), 1000);
};
