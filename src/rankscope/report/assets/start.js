// Brings the page to life: draws every chart from the inline specs and hands every widget its data. A file KIND.js says
// ``rankscope.widget("KIND", function (box, data) {...})``; what it gets is an empty box. ``rankscope.start()`` may be
// called again after <main> was replaced: what is drawn already, and was carried over, stays. Data reaches the page as
// text alone, never as markup. Charts' expressions are interpreted (ast), so that no policy must allow eval.
(function () {
  "use strict";
  var kinds = {}, root = document.documentElement;
  var options = { mode: "vega-lite", renderer: "svg", ast: true,
    actions: { export: true, source: false, compiled: false, editor: false } };

  function draw(id, spec) {
    var box = document.getElementById("chart-" + id);
    if (!box || box.chart) { return null; }
    return window.vegaEmbed(box, spec, options).then(
      function (chart) { box.chart = chart; box.setAttribute("data-drawn", "yes"); },
      function (problem) {
        box.textContent = "This chart could not be drawn (" + problem.message + "). The table below has its numbers.";
        console.error(problem);
      }
    );
  }

  function make(box) {
    var kind = box.getAttribute("data-kind"), data;
    box.given = box.querySelector("script").textContent;
    data = JSON.parse(box.given);
    box.textContent = "";
    try {
      kinds[kind](box, data);
    } catch (problem) {
      box.textContent = "This part could not be shown (" + problem.message + "). The tables have its numbers.";
      console.error(problem);
    }
    box.setAttribute("data-made", "yes");
  }

  window.rankscope = {
    widget: function (kind, maker) { kinds[kind] = maker; },
    start: function () {
      var inline = document.getElementById("chart-specs"), specs = inline ? JSON.parse(inline.textContent) : {};
      document.querySelectorAll(".widget:not([data-made])").forEach(make);
      return Promise.all(Object.keys(specs).map(function (id) { return draw(id, specs[id]); })).then(function () {
        root.setAttribute("data-charts", "done");
      });
    }
  };
})();
