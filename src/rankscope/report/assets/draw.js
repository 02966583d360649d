// Draws every chart from the inline specs. A chart that can't be drawn says so and points to its table.
(function () {
  "use strict";
  var specs = JSON.parse(document.getElementById("chart-specs").textContent);
  var options = { mode: "vega-lite", renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
  var jobs = Object.keys(specs).map(function (id) {
    var box = document.getElementById("chart-" + id);
    return window.vegaEmbed(box, specs[id], options).then(
      function () { box.setAttribute("data-drawn", "yes"); },
      function (problem) {
        box.textContent = "This chart could not be drawn (" + problem.message + "). The table below has its numbers.";
        console.error(problem);
      }
    );
  });
  Promise.all(jobs).then(function () { document.documentElement.setAttribute("data-charts", "done"); });
})();
