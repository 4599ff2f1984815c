// Gradient flow on deep factorizations of small square matrices. The same source runs in a page and,
// by dmfFlow.source, in a worker. Matrices are Float64Array, row by row; factors are listed first to last.
window.dmfFlow = (() => {
  "use strict";

  function engine() {
    // Numbers from 0 to 1, and standard normal ones, the same for a seed in every browser (mulberry32).
    function random(seed) {
      let state = (seed * 2654435761) >>> 0;
      const uniform = () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
      };
      const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
      return { uniform, normal };
    }

    const norm = (x) => Math.sqrt(x.reduce((sum, entry) => sum + entry * entry, 0));

    // out = A B, out = A^T B and out = A B^T for n × n matrices.
    function multiply(A, B, out, n) {
      out.fill(0);
      for (let i = 0; i < n; i++) {
        for (let k = 0; k < n; k++) {
          const a = A[i * n + k];
          for (let j = 0; j < n; j++) out[i * n + j] += a * B[k * n + j];
        }
      }
    }
    function multiplyLeftTransposed(A, B, out, n) {
      out.fill(0);
      for (let k = 0; k < n; k++) {
        for (let i = 0; i < n; i++) {
          const a = A[k * n + i];
          for (let j = 0; j < n; j++) out[i * n + j] += a * B[k * n + j];
        }
      }
    }
    function multiplyRightTransposed(A, B, out, n) {
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let k = 0; k < n; k++) sum += A[i * n + k] * B[j * n + k];
          out[i * n + j] = sum;
        }
      }
    }

    function product(factors, n) {
      let W = factors[0];
      for (const factor of factors.slice(1)) {
        const next = new Float64Array(n * n);
        multiply(factor, W, next, n);
        W = next;
      }
      return Float64Array.from(W);
    }

    // A hidden matrix of the given rank whose entries have mean square 1, and m observed places. The
    // places of a smaller share are among those of a larger one.
    function instance({ n, rank, share, seed }) {
      const { uniform, normal } = random(2 * seed + 1);
      const left = Array.from({ length: n * rank }, normal), right = Array.from({ length: n * rank }, normal);
      const truth = new Float64Array(n * n);
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) {
          for (let r = 0; r < rank; r++) truth[i * n + j] += left[i * rank + r] * right[j * rank + r];
        }
      }
      const scale = n / norm(truth);
      for (let i = 0; i < n * n; i++) truth[i] *= scale;
      const places = Array.from({ length: n * n }, (_, i) => i);
      for (let i = n * n - 1; i > 0; i--) {
        const other = Math.floor(uniform() * (i + 1));
        [places[i], places[other]] = [places[other], places[i]];
      }
      const m = Math.max(1, Math.round(share * n * n)), mask = new Uint8Array(n * n);
      for (const place of places.slice(0, m)) mask[place] = 1;
      return { truth, mask, m };
    }

    // Independent Gaussian factors, multiplied by one number so that ‖W(0)‖ is `size`.
    function gaussianStart({ n, depth, size, seed }) {
      const { normal } = random(2 * seed + 2);
      const factors = Array.from({ length: depth }, () =>
        Float64Array.from({ length: n * n }, () => normal() / Math.sqrt(n)));
      const scale = Math.pow(size / norm(product(factors, n)), 1 / depth);
      return factors.map((factor) => factor.map((entry) => scale * entry));
    }

    // Singular values by one-sided Jacobi rotations, largest first.
    function singularValues(W, n) {
      const A = Float64Array.from(W);
      for (let sweep = 0; sweep < 30; sweep++) {
        let turned = false;
        for (let p = 0; p < n - 1; p++) {
          for (let q = p + 1; q < n; q++) {
            let a = 0, b = 0, c = 0;
            for (let k = 0; k < n; k++) {
              const x = A[p * n + k], y = A[q * n + k];
              a += x * x;
              b += y * y;
              c += x * y;
            }
            if (Math.abs(c) <= 1e-12 * Math.sqrt(a * b) || a * b === 0) continue;
            turned = true;
            const zeta = (b - a) / (2 * c);
            const t = Math.sign(zeta || 1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
            const cosine = 1 / Math.sqrt(1 + t * t), sine = cosine * t;
            for (let k = 0; k < n; k++) {
              const x = A[p * n + k], y = A[q * n + k];
              A[p * n + k] = cosine * x - sine * y;
              A[q * n + k] = sine * x + cosine * y;
            }
          }
        }
        if (!turned) break;
      }
      const values = Array.from({ length: n }, (_, i) => norm(A.subarray(i * n, (i + 1) * n)));
      return values.sort((x, y) => y - x);
    }

    // The pair of Dormand and Prince (1980): nodes do not matter, as the flow does not depend on time.
    const STAGES = [
      [1 / 5],
      [3 / 40, 9 / 40],
      [44 / 45, -56 / 15, 32 / 9],
      [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
      [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
      [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    ];
    const ERROR = [71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40];

    // The flow of the factors for the loss ℓ(W) = c Σ (W_ij - truth_ij)² over the places of `mask`.
    class Flow {
      constructor({ n, factors, truth, mask, scale, tolerance = 1e-5 }) {
        Object.assign(this, { n, truth, mask, scale, tolerance, depth: factors.length, time: 0, steps: 0, gradients: 0 });
        const size = n * n, length = size * this.depth;
        this.state = new Float64Array(length);
        factors.forEach((factor, j) => this.state.set(factor, j * size));
        this.trial = new Float64Array(length);
        this.slopes = Array.from({ length: 7 }, () => new Float64Array(length));
        this.products = Array.from({ length: this.depth }, () => new Float64Array(size));
        this.back = [new Float64Array(size), new Float64Array(size)];
        this.W = new Float64Array(size);
        this.loss = this.velocity(this.state, this.slopes[0]);
        this.W.set(this.products[this.depth - 1]);
        const speed = norm(this.slopes[0]);
        this.h = speed > 0 ? (0.01 * norm(this.state)) / speed : 1;
      }

      // out = -∂φ/∂W_j for all j; returns the loss, and leaves the product matrix in `products`.
      velocity(state, out) {
        const { n, depth, products, truth, mask, scale } = this, size = n * n;
        const factor = (j) => state.subarray(j * size, (j + 1) * size);
        products[0].set(factor(0));
        for (let j = 1; j < depth; j++) multiply(factor(j), products[j - 1], products[j], n);
        let [behind, next] = this.back, loss = 0;
        for (let i = 0; i < size; i++) {
          const residual = mask[i] ? products[depth - 1][i] - truth[i] : 0;
          loss += scale * residual * residual;
          behind[i] = -2 * scale * residual;
        }
        for (let j = depth - 1; j > 0; j--) {
          multiplyRightTransposed(behind, products[j - 1], out.subarray(j * size, (j + 1) * size), n);
          multiplyLeftTransposed(factor(j), behind, next, n);
          [behind, next] = [next, behind];
        }
        out.subarray(0, size).set(behind);
        this.gradients += 1;
        return loss;
      }

      // One accepted step, of at most `longest`.
      step(longest = Infinity) {
        const { state, trial, slopes, tolerance } = this, length = state.length;
        for (;;) {
          const h = Math.min(this.h, longest);
          let loss = 0;
          STAGES.forEach((row, stage) => {
            for (let i = 0; i < length; i++) {
              let sum = 0;
              for (let k = 0; k < row.length; k++) sum += row[k] * slopes[k][i];
              trial[i] = state[i] + h * sum;
            }
            loss = this.velocity(trial, slopes[stage + 1]);
          });
          let error = 0;
          for (let i = 0; i < length; i++) {
            let sum = 0;
            for (let k = 0; k < 7; k++) sum += ERROR[k] * slopes[k][i];
            error += h * h * sum * sum;
          }
          const ratio = Math.sqrt(error) / (tolerance * norm(trial));
          const factor = Math.min(4, Math.max(0.2, 0.9 * Math.pow(Math.max(ratio, 1e-10), -0.2)));
          this.h = h * (Number.isFinite(ratio) ? factor : 0.1);
          if (ratio <= 1) {
            this.time += h;
            this.steps += 1;
            this.loss = loss;
            state.set(trial);
            slopes[0].set(slopes[6]); // the last slope of a step is the first one of the next
            this.W.set(this.products[this.depth - 1]);
            return;
          }
        }
      }

      error() {
        return this.W.reduce((sum, entry, i) => sum + (entry - this.truth[i]) ** 2, 0) / this.W.length;
      }
    }

    return { Flow, random, instance, gaussianStart, product, singularValues };
  }

  return { ...engine(), source: `const dmfFlow = (${engine})();` };
})();
