// needs: gradient_flow.js
// A matrix is completed by gradient flow on its factors while the reader looks on. A worker computes, the
// page draws; a worker made from text also works where a page is opened as a file.
dmfFigures.register("completion", (stage, root) => {
  "use strict";
  const { Chart, button, calm, make, matrixImage, onceAFrame, roundUp, sliders } = dmfFigures;
  const N_ROWS = 24, RANK = 2, FITTED = 1e-4, MOST_STEPS = 6000, SHOWN = 6;
  const KINDS = ["m1", "m2", ...Array(SHOWN - 2).fill("rest")];

  // In the worker: makes the problem, and steps when it is asked for a picture.
  function work() {
    let flow = null, truth = null;
    const picture = () => ({
      time: flow.time, loss: flow.loss, error: flow.error(), steps: flow.steps, W: flow.W.slice(),
      values: dmfFlow.singularValues(flow.W, flow.n),
    });
    const begin = ({ n, rank, depth, size, share, seed }) => {
      const { mask, m, ...problem } = dmfFlow.instance({ n, rank, share, seed });
      truth = problem.truth;
      const factors = dmfFlow.gaussianStart({ n, depth, size, seed });
      flow = new dmfFlow.Flow({ n, factors, truth, mask, scale: 1 / m });
      return { truth, mask, m, factors, aims: dmfFlow.singularValues(truth, n).slice(0, rank), ...picture() };
    };
    // One picture: until the matrix has visibly moved, but not longer than a frame of the screen lasts.
    const advance = ({ steps, fitted }) => {
      const before = flow.W.slice(), until = performance.now() + 12, start = flow.steps;
      const moved = () => Math.sqrt(flow.W.reduce((sum, entry, i) => sum + (entry - before[i]) ** 2, 0));
      do flow.step(); while (flow.steps - start < steps && flow.loss > fitted && moved() < 0.005 * flow.n && performance.now() < until);
      return picture();
    };
    onmessage = ({ data: { run, kind, ...given } }) => postMessage({ run, kind, ...(kind === "begin" ? begin(given) : advance(given)) });
  }
  const source = new Blob([`${dmfFlow.source}\n(${work})();`], { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(source));

  const control = sliders(stage, {
    depth: { label: "depth N", min: 1, max: 4, step: 1, value: 3 },
    size: {
      label: "start ‖W(0)‖", spoken: "start, the norm of W at time 0, powers of ten",
      min: -4, max: 1, step: 0.5, value: -3, show: (power) => Math.pow(10, power).toPrecision(1),
    },
    share: { label: "observed share of the entries", min: 0.2, max: 1, step: 0.05, value: 0.4, show: (share) => `${Math.round(100 * share)} %` },
    seed: { label: "seed of matrix, places and start", min: 0, max: 20, step: 1, value: 1 },
  }, begin);
  const buttons = make(stage, "div", { class: "buttons" });
  const play = button(buttons, "Play", () => setPlaying(!playing));
  const single = button(buttons, "Step", () => {
    setPlaying(false);
    ask(1);
  });
  button(buttons, "Restart", begin);
  const matrices = make(stage, "div", { class: "matrices" });
  const images = ["hidden matrix W*", "observed entries, the rest grey", "product matrix W(t)"].map((caption) => matrixImage(matrices, caption, N_ROWS));
  const charts = make(stage, "div", { class: "charts" });
  const [valueChart, errorChart] = ["values", "error"].map((name) => new Chart(make(charts, "div"), { name: `completion-${name}` }));
  const key = make(stage, "p", { class: "result" });
  for (const [kind, text] of [["", "largest "], ["second", "second "], ["rest", "all other singular values of W(t); dotted: those of W*"]]) {
    make(key, "span", { class: `key ${kind}`, "aria-hidden": "true" });
    key.append(text);
  }
  const result = make(stage, "p", { class: "result", "aria-live": "polite" });

  let run = 0, problem = null, history = [], playing = false, waiting = false;
  const latest = () => history.at(-1);
  const isOver = () => history.length > 0 && (latest().loss <= FITTED || latest().steps >= MOST_STEPS);

  function begin() {
    run += 1;
    waiting = true;
    const { depth, size, share, seed } = control.values();
    worker.postMessage({ run, kind: "begin", n: N_ROWS, rank: RANK, depth, size: Math.pow(10, size), share, seed });
  }

  function ask(steps) {
    if (waiting || isOver()) return;
    waiting = true;
    worker.postMessage({ run, kind: "advance", steps, fitted: FITTED });
  }

  function setPlaying(wanted) {
    if (wanted && isOver()) begin();
    playing = wanted;
    play.textContent = playing ? "Pause" : "Play";
    if (playing) ask(8);
    else say();
  }

  worker.onmessage = ({ data }) => {
    if (data.run !== run) return; // of a run that the sliders have ended
    waiting = false;
    if (data.kind === "begin") {
      problem = data;
      history = [];
    }
    history.push({ time: data.time, loss: data.loss, error: data.error, steps: data.steps, W: data.W, values: data.values.slice(0, SHOWN) });
    root.dispatchEvent(new CustomEvent("picture", { detail: { problem, history } }));
    if (history.length > 1) delete history.at(-2).W;
    // Where motion is unwelcome, only the end of a run is shown, not the way.
    if (!(playing && calm.matches) || isOver()) show();
    if (isOver() && playing) setPlaying(false);
    else if (playing) (calm.matches ? setTimeout : requestAnimationFrame)(() => playing && ask(calm.matches ? 1000 : 8));
    single.disabled = isOver();
    if (!playing) say();
  };

  const draw = () => {
    if (!problem) return;
    const { truth, mask, aims } = problem, most = Math.max(...truth.map(Math.abs)) * 0.8, now = latest();
    images[0](truth, most);
    images[1](truth, most, mask);
    images[2](now.W, most);
    const time = { low: 0, high: roundUp(Math.max(now.time, 10)), label: "time t" };
    const largest = 1.08 * Math.max(aims[0], ...history.map(({ values }) => values[0]));
    valueChart.axes(time, { low: 0, high: largest, label: "singular values" },
      `Singular values of W at time ${now.time.toFixed(0)}: ${now.values.slice(0, 3).map((value) => value.toFixed(2)).join(", ")}; those of the hidden matrix are ${aims.map((value) => value.toFixed(2)).join(" and ")}.`);
    aims.forEach((aim, r) => valueChart.level(aim, `m${r + 1} target`));
    for (let r = SHOWN - 1; r >= 0; r--) valueChart.line(history.map(({ time: t, values }) => [t, values[r]]), KINDS[r]);
    errorChart.axes(time, { low: 1e-5, high: 10, log: true, label: "error, loss" },
      `Error over all entries at time ${now.time.toFixed(0)}: ${now.error.toPrecision(2)}; mean square residual on the observed ones: ${now.loss.toPrecision(2)}.`);
    errorChart.line(history.map(({ time: t, loss }) => [t, loss]), "rest");
    errorChart.line(history.map(({ time: t, error }) => [t, error]), "m1");
  };
  const show = onceAFrame(draw);

  function say() {
    if (!problem) return;
    const { time, error, loss, values } = latest();
    const learned = values.filter((value) => value > 0.05 * problem.aims[0]).length;
    const state = loss <= FITTED ? "The observed entries are fitted." : latest().steps >= MOST_STEPS ? "Given up: not yet fitted." : "";
    result.textContent = `${problem.m} of ${N_ROWS * N_ROWS} entries observed. Time ${time.toFixed(0)}: error over all entries ${error.toPrecision(2)} (blue line), on the observed ones ${loss.toPrecision(2)} (grey line); ${learned} singular value${learned === 1 ? "" : "s"} above 5 % of the largest of W*. ${state}`;
  }

  begin();
  return show;
});
