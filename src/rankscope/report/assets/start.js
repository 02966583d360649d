// Brings the page to life: draws every chart from the inline specs and hands every widget its data. A file KIND.js says
// ``rankscope.widget("KIND", function (box, data) {...})``; what it gets is an empty box. ``rankscope.start()`` may be
// called again after <main> was replaced: what is drawn already, and was carried over, stays. Data reaches the page as
// text alone, never as markup. Charts' expressions are interpreted (ast), so that no policy must allow eval.
//
// Charts near the window are drawn at once, the others one by one with turns for clicks between them, so that a long
// page is usable early; ``start({all: true})`` and printing wait for no turn. ``data-charts="done"``: all are drawn.
(function () {
  "use strict";
  var kinds = {}, root = document.documentElement, watcher = null, reader = null, waiting = {}, drawing = 0, told = [];
  var options = {
    mode: "vega-lite", renderer: "svg", ast: true, tooltip: { theme: "custom" },
    actions: { export: true, source: false, compiled: false, editor: false }
  };

  function later(work) {
    window.setTimeout(work, 20);  // a turn for clicks and keys between two charts
  }

  function settle() {
    if (drawing || Object.keys(waiting).length) { return; }
    root.setAttribute("data-charts", "done");
    told.splice(0).forEach(function (tell) { tell(); });
  }

  function draw(id) {
    var box = document.getElementById("chart-" + id), spec = waiting[id];
    delete waiting[id];
    if (!box || !spec) { settle(); return Promise.resolve(); }
    if (watcher) { watcher.unobserve(box); }
    drawing += 1;
    return window.vegaEmbed(box, spec, options).then(
      function (chart) { box.chart = chart; box.setAttribute("data-drawn", "yes"); name(box); },
      function (problem) {
        box.textContent = "This chart could not be drawn (" + problem.message + "). The table below has its numbers.";
        console.error(problem);
      }
    ).then(function () { drawing -= 1; settle(); });
  }

  // The drawing takes over the box's name and text as one image; the menu beside it stays within reach of the keyboard.
  function name(box) {
    var svg = box.querySelector("svg.marks"), menu = box.querySelector("summary");
    if (svg) {
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", box.getAttribute("aria-label"));
      svg.removeAttribute("aria-roledescription");
      box.removeAttribute("role");
      box.removeAttribute("aria-label");
    }
    if (menu) { menu.setAttribute("aria-label", "Save this chart as an image"); }
  }

  function drawAll() {
    return Promise.all(Object.keys(waiting).map(draw));
  }

  function following() {
    var next = Object.keys(waiting)[0];
    if (next === undefined) { settle(); return; }
    draw(next).then(function () { later(following); });
  }

  function watch() {
    if (watcher) { watcher.disconnect(); watcher = null; }
    if (!window.IntersectionObserver) { return; }
    watcher = new IntersectionObserver(function (seen) {
      seen.forEach(function (one) { if (one.isIntersecting) { draw(one.target.id.slice("chart-".length)); } });
    }, { rootMargin: "200px" });
    document.querySelectorAll(".canvas[id]").forEach(function (box) { watcher.observe(box); });
  }

  // The navigation marks the part that is being read.
  function follow() {
    if (reader) { reader.disconnect(); }
    if (!window.IntersectionObserver) { return; }
    reader = new IntersectionObserver(function (seen) {
      seen.forEach(function (one) {
        var link = document.querySelector('nav.parts a[href="#' + one.target.id + '"]');
        if (link && one.isIntersecting) { link.setAttribute("aria-current", "location"); } else if (link) { link.removeAttribute("aria-current"); }
      });
    }, { rootMargin: "-20% 0px -79% 0px" });
    document.querySelectorAll("section.part").forEach(function (part) { reader.observe(part); });
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

  window.addEventListener("beforeprint", drawAll);

  window.rankscope = {
    widget: function (kind, maker) { kinds[kind] = maker; },
    start: function (how) {
      var inline = document.getElementById("chart-specs");
      document.querySelectorAll(".widget:not([data-made])").forEach(make);
      root.removeAttribute("data-charts");
      follow();
      waiting = inline ? JSON.parse(inline.textContent) : {};
      document.querySelectorAll(".canvas[data-drawn]").forEach(function (box) { delete waiting[box.id.slice("chart-".length)]; });
      var finished = new Promise(function (tell) { told.push(tell); });
      if (how && how.all) { drawAll().then(settle); } else { watch(); later(following); }
      return finished;
    }
  };
})();
