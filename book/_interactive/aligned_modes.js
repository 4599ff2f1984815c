// Two aligned singular values, dσ/dt = N σ^(2-2/N) (y - σ), integrated while the sliders move.
dmfFigures.register("aligned_modes", (stage) => {
  "use strict";
  const { Chart, make, sliders } = dmfFigures;
  const control = sliders(stage, {
    depth: { label: "depth N", min: 1, max: 6, step: 1, value: 3 },
    start: {
      label: "start of both values", spoken: "start of both values, powers of ten",
      min: -4, max: -1, step: 0.25, value: -3, show: (power) => Math.pow(10, power).toPrecision(2),
    },
    first: { label: "target of the first value", min: 0.2, max: 2, step: 0.05, value: 1, show: (y) => y.toFixed(2) },
    second: { label: "target of the second value", min: 0.2, max: 2, step: 0.05, value: 0.6, show: (y) => y.toFixed(2) },
  }, draw);
  const chart = new Chart(make(stage, "div"), { name: "aligned-modes" });
  const result = make(stage, "p", { class: "result", "aria-live": "polite" });
  const line = (kind, text) => {
    if (kind !== null) make(result, "span", { class: `key ${kind}`, "aria-hidden": "true" });
    result.append(text);
    const output = make(result, "output");
    make(result, "br");
    return output;
  };
  const shownHalves = [line("", "half-time of the first value: "), line("second", "half-time of the second value: ")];
  const share = line(null, "share of its target that one value has reached when the other is halfway: ");

  const velocity = (s, y, N) => N * Math.pow(s, 2 - 2 / N) * (y - s);

  function rungeKutta(s, h, y, N) {
    const a = velocity(s, y, N);
    const b = velocity(s + (h / 2) * a, y, N);
    const c = velocity(s + (h / 2) * b, y, N);
    const d = velocity(s + h * c, y, N);
    return s + (h / 6) * (a + 2 * b + 2 * c + d);
  }

  // A step is a small part of the time in which the value, or its distance to the target, changes by a factor e.
  const stepSize = (s, y, N) => 0.04 / (N * Math.pow(s, 1 - 2 / N) * Math.max(s, y));

  // The moment inside the step from s at which the value passes `aim`.
  function crossing(s, h, aim, y, N) {
    let low = 0, high = h;
    for (let i = 0; i < 50; i++) {
      const middle = (low + high) / 2;
      if (rungeKutta(s, middle, y, N) < aim) low = middle; else high = middle;
    }
    return high;
  }

  function halfTime(start, y, N) {
    let t = 0, s = start;
    while (s < y / 2) {
      const h = stepSize(s, y, N), next = rungeKutta(s, h, y, N);
      if (next >= y / 2) return t + crossing(s, h, y / 2, y, N);
      t += h;
      s = next;
    }
    return 0; // it starts beyond
  }

  function path(start, y, N, end) {
    const points = [[0, start]];
    let t = 0, s = start;
    while (t < end) {
      const h = Math.min(stepSize(s, y, N), end / 200, end - t);
      s = rungeKutta(s, h, y, N);
      t = end - t <= h ? end : t + h;
      points.push([t, s]);
    }
    return points;
  }

  function draw() {
    const { depth: N, start: power, first: y1, second: y2 } = control.values();
    const start = Math.pow(10, power), targets = [y1, y2];
    const halves = targets.map((y) => halfTime(start, y, N));
    const end = 1.4 * Math.max(...halves) + 0.2 * Math.min(...halves) + 0.01;
    chart.axes(
      { low: 0, high: end, label: "time t" },
      { low: 0, high: 1.08 * Math.max(...targets), label: "singular values σ" },
      `Two singular values over time at depth ${N}: targets ${targets.join(" and ")}, halfway at times ${halves.map((t) => t.toFixed(2)).join(" and ")}.`,
    );
    targets.forEach((target, i) => {
      chart.level(target, `m${i + 1} target`);
      chart.line(path(start, target, N, end), `m${i + 1}`);
      chart.mark(halves[i], Math.max(start, target / 2), `m${i + 1}`);
      shownHalves[i].textContent = halves[i].toFixed(2);
    });
    const first = halves[0] <= halves[1] ? 0 : 1, other = 1 - first;
    const percent = (100 * path(start, targets[other], N, halves[first]).at(-1)[1]) / targets[other];
    share.textContent = `${percent < 10 ? percent.toPrecision(2) : percent.toFixed(0)} %`;
  }

  shownHalves.forEach((output, i) => output.setAttribute("data-half", i));
  share.setAttribute("data-shows", "share");
  return draw;
});
