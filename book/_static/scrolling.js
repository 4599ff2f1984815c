// What is wider than its column scrolls in its own box: long formulas, and on a phone the figures.
// The keyboard must reach such a box, and only such: a page has hundreds of formulas, and most fit.
(() => {
  const mark = () => {
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
