// What the figures that move in the page share: sliders, buttons, axes, images of matrices, colours.
// A figure registers itself by name; figures.css has its colours, light and dark.
window.dmfFigures = (() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  function make(parent, name, attributes = {}, text) {
    const element = parent.namespaceURI === SVG || name === "svg" ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  // Sliders from {name: {label, min, max, step, value, show, spoken}}; `show` turns a position into text.
  function sliders(parent, given, changed) {
    const controls = make(parent, "div", { class: "controls" });
    const entries = Object.entries(given).map(([name, { label, spoken, show = String, ...range }]) => {
      const frame = make(controls, "label");
      make(frame, "span", {}, label);
      const output = make(frame, "output", { "data-shows": name });
      const input = make(frame, "input", { type: "range", name, "aria-label": spoken ?? label, ...range });
      const write = () => {
        output.textContent = show(Number(input.value));
        input.setAttribute("aria-valuetext", output.textContent);
      };
      input.addEventListener("input", () => {
        write();
        changed(name);
      });
      write();
      return [name, input];
    });
    return { values: () => Object.fromEntries(entries.map(([name, input]) => [name, Number(input.value)])) };
  }

  function button(parent, text, act) {
    const made = make(parent, "button", { type: "button" }, text);
    made.addEventListener("click", act);
    return made;
  }

  const powerOfTen = (k) => `10${[...String(k)].map((sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign] ?? "⁻").join("")}`;

  // About `count` round numbers from low to high; on a logarithmic axis, powers of ten.
  function ticks(low, high, count, isLog) {
    if (isLog) {
      const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
      if (last - first < 2) {
        const steps = [first - 1, first, first + 1].flatMap((k) => [1, 2, 5].map((factor) => Number(`${factor}e${k}`)));
        return steps.filter((value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9)).map((value) => [value, String(value)]);
      }
      const stride = Math.max(1, Math.ceil((last - first) / count));
      return Array.from({ length: Math.floor((last - first) / stride) + 1 }, (_, i) => first + i * stride)
        .map((k) => [Math.pow(10, k), powerOfTen(k)]);
    }
    const rough = (high - low) / count, power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(6)))
      .map((value) => [value, String(value).replace("-", "−")]);
  }

  // The least of 1, 2, 5, 10, 20, … that is not below x: an axis that grows in few leaps.
  function roundUp(x) {
    const power = Math.pow(10, Math.floor(Math.log10(x)));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= x);
  }

  // A chart in the space of its parent; sizes are those of the screen, so letters stay readable on a phone.
  class Chart {
    constructor(parent, { name }) {
      this.parent = parent;
      this.svg = make(parent, "svg", { role: "img" });
      this.title = make(this.svg, "title", { id: `${name}-title` });
      this.svg.setAttribute("aria-labelledby", this.title.id);
      this.drawing = make(this.svg, "g");
    }

    // Begin anew: axes {low, high, label, log}.
    axes(x, y, title) {
      const width = Math.max(240, this.parent.clientWidth), height = Math.min(360, Math.max(220, 0.55 * width));
      const left = 52, right = 22, top = 12, bottom = 44;
      const scale = (axis, from, to) => {
        const [low, high] = axis.log ? [Math.log10(axis.low), Math.log10(axis.high)] : [axis.low, axis.high];
        return (value) => {
          const place = axis.log ? Math.log10(Math.max(value, axis.low * 1e-3)) : value;
          return from + ((place - low) / (high - low)) * (to - from);
        };
      };
      this.x = scale(x, left, width - right);
      this.y = scale(y, height - bottom, top);
      this.box = { left, right: width - right, top, bottom: height - bottom };
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.title.textContent = title;
      this.drawing.replaceChildren();
      const { box } = this;
      for (const [value, text] of ticks(x.low, x.high, width > 420 ? 5 : 4, x.log)) {
        this.add("line", { class: "grid", x1: this.x(value), x2: this.x(value), y1: box.top, y2: box.bottom });
        this.add("text", { x: this.x(value), y: box.bottom + 18, "text-anchor": "middle" }, text);
      }
      for (const [value, text] of ticks(y.low, y.high, 5, y.log)) {
        this.add("line", { class: "grid", x1: box.left, x2: box.right, y1: this.y(value), y2: this.y(value) });
        this.add("text", { x: box.left - 6, y: this.y(value) + 4, "text-anchor": "end" }, text);
      }
      this.add("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom });
      this.add("line", { class: "axis", x1: box.left, x2: box.left, y1: box.top, y2: box.bottom });
      const [middle, side] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
      this.add("text", { x: middle, y: height - 6, "text-anchor": "middle" }, x.label);
      this.add("text", { x: 13, y: side, "text-anchor": "middle", transform: `rotate(-90 13 ${side})` }, y.label);
    }

    add(name, attributes, text) {
      return make(this.drawing, name, attributes, text);
    }

    // A line through [x, y] pairs; what leaves the axes at the top or the bottom is drawn at their edge.
    line(points, kind) {
      const { top, bottom } = this.box;
      const place = ([x, y]) => `${this.x(x).toFixed(1)} ${Math.min(bottom, Math.max(top, this.y(y))).toFixed(1)}`;
      return this.add("path", { class: kind, d: points.length ? `M${points.map(place).join("L")}` : "" });
    }

    level(y, kind) {
      this.add("line", { class: kind, x1: this.box.left, x2: this.box.right, y1: this.y(y), y2: this.y(y) });
    }

    mark(x, y, kind) {
      this.add("circle", { class: kind, cx: this.x(x), cy: this.y(y), r: 5 });
    }
  }

  // A row of matrices as images: blue below zero, white at zero, orange above; grey where nothing is known.
  function matrixImage(parent, caption, n) {
    const frame = make(parent, "div", { class: "matrix" });
    const canvas = make(frame, "canvas", { width: n, height: n, role: "img", "aria-label": caption });
    make(frame, "p", {}, caption);
    const context = canvas.getContext("2d"), pixels = context.createImageData(n, n);
    const ends = [[0, 84, 147], [196, 84, 0]], unknown = [150, 150, 150];
    return (W, most, mask) => {
      for (let i = 0; i < n * n; i++) {
        const share = Math.min(1, Math.abs(W[i]) / most), end = ends[W[i] < 0 ? 0 : 1];
        const color = mask && !mask[i] ? unknown : end.map((part) => 255 + share * (part - 255));
        pixels.data.set([...color, 255], 4 * i);
      }
      context.putImageData(pixels, 0, 0);
    };
  }

  // Draw at most once a frame, however often it is asked for.
  function onceAFrame(draw) {
    let asked = false;
    return () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        draw();
      });
    };
  }

  // Fill each section of this name; without scripts it keeps what stands between its noscript tags.
  function register(name, setUp) {
    for (const root of document.querySelectorAll(`section.dmf-figure[data-figure="${name}"]`)) {
      const stage = make(root, "div", { class: "stage" });
      const redraw = setUp(stage, root);
      let width = 0;
      new ResizeObserver(() => {
        if (root.clientWidth === width) return; // only its height changed, by what was drawn
        width = root.clientWidth;
        redraw();
      }).observe(root);
    }
  }

  return { Chart, button, calm, make, matrixImage, onceAFrame, powerOfTen, register, roundUp, sliders };
})();
