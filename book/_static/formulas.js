// A formula that is wider than its column scrolls in its own box. The keyboard must reach that box,
// and only then: a page has hundreds of formulas, and most of them fit.
(() => {
  const mark = () => {
    for (const box of document.querySelectorAll(".bd-article :is(div.math, mjx-container)")) {
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
