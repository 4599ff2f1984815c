// needs: gradient_flow.js
// Two diagonal entries, 2 and 1, are observed. From α I plus a little off the diagonal, which matrix is found?
dmfFigures.register("instability", (stage) => {
  "use strict";
  const { Chart, make, matrixImage, onceAFrame, powerOfTen, sliders } = dmfFigures;
  const TARGETS = [2, 1], FITTED = 1e-10;
  const alphas = Array.from({ length: 14 }, (_, i) => Math.pow(10, -0.3 - i * 0.1)); // 0.5 to 0.025
  const redraw = onceAFrame(draw);
  const control = sliders(stage, {
    depth: { label: "depth N", min: 2, max: 4, step: 1, value: 3 },
    alpha: { label: "start α", spoken: "start alpha, powers of ten", min: -1.6, max: -0.3, step: 0.1, value: -1.4, show: (a) => Math.pow(10, a).toPrecision(2) },
    noise: {
      label: "off the diagonal, relative to the start", spoken: "off the diagonal, relative to the start, powers of ten",
      min: -12, max: -2, step: 1, value: -6, show: powerOfTen,
    },
  }, redraw);
  const row = make(stage, "div", { class: "matrices" });
  const image = matrixImage(row, "W at the end", 2);
  const words = make(row, "p", { class: "result", "aria-live": "polite" });
  words.style.flex = "3 1 14rem";
  const charts = make(stage, "div", { class: "charts" });
  const [overTime, overAlpha] = ["time", "alpha"].map((name) => new Chart(make(charts, "div"), { name: `instability-${name}` }));
  const key = make(stage, "p", { class: "result" });
  for (const [kind, text] of [["", "W₁₁ "], ["second", "W₂₂ "], ["third", "|W₁₂| (left), and at the end over √2 (right)"]]) {
    make(key, "span", { class: `key ${kind}`, "aria-hidden": "true" });
    key.append(text);
  }

  // Balanced factors: each is the N-th root of α^N (I + δ (E₁₂ + E₂₁)), whose eigenvalues are α (1 ± δ)^(1/N).
  function factors(depth, alpha, noise) {
    const up = Math.expm1(Math.log1p(noise) / depth), down = Math.expm1(Math.log1p(-noise) / depth);
    const diagonal = alpha * (1 + (up + down) / 2), off = (alpha * (up - down)) / 2;
    return Array.from({ length: depth }, () => Float64Array.of(diagonal, off, off, diagonal));
  }

  function follow(depth, alpha, noise) {
    const truth = Float64Array.of(TARGETS[0], 0, 0, TARGETS[1]), mask = Uint8Array.of(1, 0, 0, 1);
    const flow = new dmfFlow.Flow({ n: 2, factors: factors(depth, alpha, noise), truth, mask, scale: 0.5, tolerance: 1e-7 });
    const path = [[0, ...flow.W]];
    while (flow.loss > FITTED && flow.steps < 20000) {
      flow.step();
      path.push([flow.time, ...flow.W]);
    }
    return path;
  }

  const cache = new Map();
  function ends(depth, noise) {
    const name = `${depth} ${noise}`;
    if (!cache.has(name)) cache.set(name, alphas.map((alpha) => [alpha, Math.abs(follow(depth, alpha, noise).at(-1)[2]) / Math.SQRT2]));
    return cache.get(name);
  }

  function draw() {
    const { depth, alpha: power, noise: exponent } = control.values();
    const alpha = Math.pow(10, power), noise = Math.pow(10, exponent), path = follow(depth, alpha, noise);
    const [time, w11, w12, , w22] = path.at(-1);
    image(Float64Array.of(w11, w12, w12, w22), 2.2);
    overTime.axes({ low: 0, high: time, label: "time t" }, { low: 1e-12, high: 10, log: true, label: "entries of W" },
      `Entries of W over time at depth ${depth}: at the end W₁₁ = ${w11.toFixed(3)}, W₂₂ = ${w22.toFixed(3)}, W₁₂ = ${w12.toExponential(1)}.`);
    [1, 4, 2].forEach((entry, i) => overTime.line(path.map((point) => [point[0], Math.abs(point[entry])]), `m${i + 1}`));
    const found = ends(depth, noise);
    overAlpha.axes({ low: alphas.at(-1), high: 0.5, log: true, label: "start α" }, { low: 0, high: 1.1, label: "|W₁₂| / √2 at the end" },
      `Off-diagonal entry at the end, over the square root of 2, at depth ${depth}: ${found.at(-1)[1].toPrecision(2)} from the smallest start, ${found[0][1].toPrecision(2)} from the largest.`);
    overAlpha.line(found, "m3");
    overAlpha.mark(alpha, Math.abs(w12) / Math.SQRT2, "m3");
    const share = Math.abs(w12) / Math.SQRT2, grown = Math.abs(w12) / (noise * Math.pow(alpha, depth));
    const which = share > 0.97 ? "the rank-1 matrix" : share < 0.03 ? "nearly diag(2, 1), of rank 2" : "a matrix in between";
    words.textContent = `Off the diagonal, W began with ${(noise * Math.pow(alpha, depth)).toExponential(0)} and ends with ${w12.toPrecision(2)}, ${grown.toExponential(0)} times as much: ${which}. Both diagonal entries are fitted, and the nuclear norm is 3 in either case.`;
  }
  return draw;
});
