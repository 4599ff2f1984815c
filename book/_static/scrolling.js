// What is wider than its column scrolls in its own box: long formulas, and on a phone the figures.
// The keyboard must reach such a box, and only such: a page has hundreds of formulas, and most fit.
// A formula within a line does not break: one that is longer than the line gets a line of its own.
(() => {
  const part = () => {
    const formulas = [...document.querySelectorAll(".bd-article mjx-container:not([display], table *)")];
    formulas.forEach((formula) => formula.classList.remove("long"));
    const isLong = formulas.map((formula) => {
      const line = formula.closest("p, li, dd, div").getBoundingClientRect();
      return formula.getBoundingClientRect().right > line.right + 1;
    });
    formulas.forEach((formula, k) => formula.classList.toggle("long", isLong[k]));
  };
  const mark = () => {
    part();
    for (const box of document.querySelectorAll(".bd-article :is(div.math, mjx-container, figure)")) {
      if (box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "visible") {
        box.tabIndex = 0;
      } else {
        box.removeAttribute("tabindex");
      }
    }
  };
  window.addEventListener("load", () => {
    const typeset = window.MathJax?.startup?.promise ?? Promise.resolve();
    typeset.then(mark);
    window.addEventListener("resize", mark);
    // Drop-downs hide formulas until they are opened.
    document.addEventListener("toggle", mark, true);
    document.addEventListener("click", () => setTimeout(mark, 50));
  });
})();
