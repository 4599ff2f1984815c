// The segment of Proposition 1: W_ε has singular values 1 + ε and 1 - ε, so ‖W_ε‖_p^p = (1+ε)^p + (1-ε)^p.
dmfFigures.register("escape", (stage) => {
  "use strict";
  const { Chart, make, matrixImage, sliders } = dmfFigures;
  const control = sliders(stage, {
    p: { label: "exponent p", min: 0.05, max: 2, step: 0.05, value: 0.5, show: (p) => p.toFixed(2) },
    epsilon: { label: "step ε", min: -1, max: 1, step: 0.02, value: 0.4, show: (x) => x.toFixed(2).replace("-", "−") },
  }, draw);
  const row = make(stage, "div", { class: "matrices" });
  const image = matrixImage(row, "W with step ε: upper corner of 3 by 3", 3);
  const words = make(row, "p", { class: "result", "aria-live": "polite" });
  words.style.flex = "3 1 14rem";
  const charts = make(stage, "div", { class: "charts" });
  const [byStep, byExponent] = ["step", "exponent"].map((name) => new Chart(make(charts, "div"), { name: `escape-${name}` }));

  // ‖W_ε‖_p / ‖W_0‖_p, through logarithms: its powers 1/p are huge for small p.
  const ratio = (epsilon, p) => {
    const sum = [1 + epsilon, 1 - epsilon].filter((s) => s > 1e-12).reduce((total, s) => total + Math.pow(s, p), 0);
    return Math.exp(Math.log(sum / 2) / p);
  };
  const range = (low, high, count) => Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));

  function draw() {
    const { p, epsilon } = control.values(), here = ratio(epsilon, p), change = 100 * (here - 1);
    image(Float64Array.of(1, epsilon, 0, epsilon, 1, 0, 0, 0, 0), 1.2);
    const y = { low: 0, high: 1.5, label: "norm, 1 at ε = 0" };
    byStep.axes({ low: -1, high: 1, label: "step ε" }, y, `For p = ${p.toFixed(2)}, the norm along the segment has a ${p < 1 ? "maximum at ε = 0" : p > 1 ? "minimum at ε = 0" : "constant value"}.`);
    byStep.line(range(-1, 1, 201).map((e) => [e, ratio(e, 1)]), "rest");
    byStep.line(range(-1, 1, 401).map((e) => [e, ratio(e, p)]), "m1");
    byStep.mark(epsilon, here, "m1");
    byExponent.axes({ low: 0, high: 2, label: "exponent p" }, y, `At ε = ${epsilon.toFixed(2)}, the norm is below that at ε = 0 for p below 1, equal for p = 1, and above it for p above 1.`);
    byExponent.level(1, "rest");
    byExponent.line(range(0.02, 2, 200).map((q) => [q, ratio(epsilon, q)]), "m2");
    byExponent.mark(p, here, "m2");
    const size = `${Math.abs(change).toFixed(1)} %`;
    const said = Math.abs(change) < 0.05 ? "as large as" : change < 0 ? `${size} smaller than` : `${size} larger than`;
    const rank = Math.abs(epsilon) > 0.999 ? 1 : 2;
    words.textContent = `With p = ${p.toFixed(2)} and ε = ${epsilon.toFixed(2).replace("-", "−")}, the norm of W is ${said} at the limit of small starts, ε = 0. The nuclear norm, p = 1, is the same along the whole segment. Rank here: ${rank}.`;
  }
  return draw;
});
