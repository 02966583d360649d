// Draws every chart from the inline specs. A chart that can't be drawn says so and points to its table. What is drawn
// already stays (the live page carries it over). Expressions are interpreted (ast), so that no policy must allow eval.
(function () {
  "use strict";
  var options = { mode: "vega-lite", renderer: "svg", ast: true,
    actions: { export: true, source: false, compiled: false, editor: false } };

  function draw(box, spec) {
    return window.vegaEmbed(box, spec, options).then(
      function (chart) { box.chart = chart; box.setAttribute("data-drawn", "yes"); },
      function (problem) {
        box.textContent = "This chart could not be drawn (" + problem.message + "). The table below has its numbers.";
        console.error(problem);
      }
    );
  }

  function start(root) {
    var specs = JSON.parse(document.getElementById("chart-specs").textContent);
    var jobs = Object.keys(specs).map(function (id) {
      var box = root.querySelector("[id='chart-" + id + "']");
      return box && !box.chart ? draw(box, specs[id]) : null;
    });
    return Promise.all(jobs).then(function () { document.documentElement.setAttribute("data-charts", "done"); });
  }

  window.rankscope = Object.assign(window.rankscope || {}, { start: start });
  start(document);
})();
