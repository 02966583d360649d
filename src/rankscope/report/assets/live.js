// Keeps a page of `rankscope view` up to date: asks the server every two seconds how the study goes and, when the page
// it would send has changed, puts the new <main> in the place of the old one. The reader's place, what is unfolded,
// fields and charts that haven't changed are kept. Asks nobody but the server that sent the page.
(function () {
  "use strict";
  var EVERY = 2000;
  var told = JSON.parse(document.getElementById("live").textContent), shown = told.version, isBusy = false;
  var bar = document.body.appendChild(document.createElement("aside"));
  bar.id = "live-bar";
  bar.setAttribute("aria-label", "How the study goes");
  bar.hidden = true;

  function part(kind, text) {
    var box = document.createElement("span");
    box.className = kind;
    box.textContent = text;
    return box;
  }

  function home() {
    var link = document.createElement("a");
    link.href = "/";
    link.textContent = "All studies of this store";
    return link;
  }

  // ---- the bar

  function curve(losses) {
    var space = "http://www.w3.org/2000/svg", svg = document.createElementNS(space, "svg");
    var line = svg.appendChild(document.createElementNS(space, "path"));
    var steps = losses.map(function (p) { return p[0]; }), values = losses.map(function (p) { return p[1]; });
    var first = steps[0], wide = steps[steps.length - 1] - first || 1;
    var low = Math.min.apply(null, values), tall = Math.max.apply(null, values) - low || 1;
    svg.setAttribute("viewBox", "0 0 100 20");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    line.setAttribute("d", losses.map(function (p, i) {
      var x = 100 * (p[0] - first) / wide, y = 19 - 18 * (p[1] - low) / tall;
      return (i ? "L" : "M") + x.toFixed(2) + " " + y.toFixed(2);
    }).join(""));
    return svg;
  }

  function show(state) {
    var parts = [];
    bar.setAttribute("data-state", state.running ? "running" : "still");
    if (state.said) { parts.push(part("said", state.said)); }
    if (state.running && state.total) {
      var done = document.createElement("progress");
      done.max = state.total;
      done.value = state.done;
      done.setAttribute("aria-label", "Runs done");
      parts.push(done);
    }
    if (state.work) { parts.push(part("part", state.work)); }
    if (state.losses && state.losses.length > 1) {
      var last = state.losses[state.losses.length - 1];
      var loss = part("part", "training loss so far " + last[1].toFixed(3) + ": unfinished, in no estimate");
      loss.prepend(curve(state.losses), " ");
      parts.push(loss);
    }
    if (state.problem) { parts.push(part("problem", state.problem)); }
    if (parts.length && location.pathname !== "/") { parts.push(home()); }
    bar.replaceChildren.apply(bar, parts);
    bar.hidden = !parts.length;
  }

  function lost(words) {
    bar.setAttribute("data-state", "lost");
    bar.replaceChildren(part("said", words));
    bar.hidden = false;
  }

  // ---- what a reader has done to the page

  function named(elements, name) {
    var seen = {}, found = {};
    elements.forEach(function (element) {
      var key = name(element), again = seen[key] = (seen[key] || 0) + 1;
      found[key + "|" + again] = element;
    });
    return found;
  }

  function all(root, selector) { return [].slice.call(root.querySelectorAll(selector)); }

  function holder(element) {
    var found = element.parentElement && element.parentElement.closest("[id]");
    return found ? found.id : "";
  }

  function folds(root) {
    return named(all(root, "details").filter(function (box) { return !box.closest(".vega-embed"); }), function (box) {
      var table = box.classList.contains("fold") && box.querySelector("table[id]"), head = box.querySelector("summary");
      return holder(box) + "|" + (table ? "table " + table.id : head ? head.textContent : "");
    });
  }

  function boxes(root) {
    return named(all(root, ".scroll, .canvas"), function (box) { return box.id || box.getAttribute("aria-label") || ""; });
  }

  function fields(root) {
    return named(all(root, "input, select, textarea"), function (field) {
      return (field.id || holder(field) + "|" + field.name) + (field.type === "radio" ? "|" + field.value : "");
    });
  }

  function place(root) {
    var found = null;
    all(root, "section[id], table[id], .canvas[id]").some(function (element) {
      var top = element.getBoundingClientRect().top;
      if (top > 90 && found) { return true; }
      if (element.getClientRects().length) { found = { id: element.id, top: top }; }
      return false;
    });
    return window.scrollY > 0 ? found : null;
  }

  function goTo(found) {
    var element = found && document.getElementById(found.id);
    if (element) { window.scrollBy(0, element.getBoundingClientRect().top - found.top); }
  }

  function remember(root) {
    var kept = { open: {}, scrolled: {}, fields: {}, place: place(root), focus: null };
    var known = folds(root), rolled = boxes(root), asked = fields(root);
    Object.keys(known).forEach(function (key) {
      kept.open[key] = known[key].open;
      if (known[key].querySelector("summary") === document.activeElement) { kept.focus = ["fold", key]; }
    });
    Object.keys(rolled).forEach(function (key) { kept.scrolled[key] = [rolled[key].scrollLeft, rolled[key].scrollTop]; });
    Object.keys(asked).forEach(function (key) {
      kept.fields[key] = [asked[key].value, asked[key].checked];
      if (asked[key] === document.activeElement) { kept.focus = ["field", key]; }
    });
    return kept;
  }

  function restore(root, kept) {
    var known = folds(root), rolled = boxes(root), asked = fields(root);
    Object.keys(known).forEach(function (key) { if (key in kept.open) { known[key].open = kept.open[key]; } });
    Object.keys(asked).forEach(function (key) {
      var was = kept.fields[key], field = asked[key];
      if (!was || (field.value === was[0] && field.checked === was[1])) { return; }
      if (field.type === "radio" || field.type === "checkbox") { field.checked = was[1]; } else { field.value = was[0]; }
      ["input", "change"].forEach(function (kind) { field.dispatchEvent(new Event(kind, { bubbles: true })); });
    });
    Object.keys(rolled).forEach(function (key) {
      var was = kept.scrolled[key];
      if (was) { rolled[key].scrollLeft = was[0]; rolled[key].scrollTop = was[1]; }
    });
    if (kept.focus) {
      var found = kept.focus[0] === "fold" ? known[kept.focus[1]] : asked[kept.focus[1]];
      found = found && kept.focus[0] === "fold" ? found.querySelector("summary") : found;
      if (found) { found.focus({ preventScroll: true }); }
    }
    goTo(kept.place);
  }

  // ---- the new page in the place of the old one

  function specs(page) {
    var found = page.getElementById("chart-specs");
    return found ? JSON.parse(found.textContent) : {};
  }

  // A chart whose spec is the same goes on as it is, and so does a widget whose data is; the other charts keep their
  // height until they are drawn.
  function carry(main, next, before, after) {
    all(main, ".canvas[id]").forEach(function (old) {
      var id = old.id.replace(/^chart-/, ""), box = next.querySelector("[id='" + old.id + "']");
      if (box && old.chart && JSON.stringify(before[id]) === JSON.stringify(after[id])) {
        box.replaceWith(old);
        return;
      }
      if (box) { box.style.minHeight = old.offsetHeight + "px"; }
      if (old.chart) { old.chart.finalize(); }
    });
    all(main, ".widget[id]").forEach(function (old) {
      var box = next.querySelector("[id='" + old.id + "']"), data = box && box.querySelector("script");
      if (data && old.given === data.textContent) { box.replaceWith(old); }
    });
  }

  // Whether the new page has scripts that this one doesn't: its first chart's, say. They only run when it is loaded.
  function needsMore(fresh) {
    var own = all(document, "script:not([type])").map(function (script) { return script.textContent; });
    return all(fresh, "script:not([type])").some(function (script) { return own.indexOf(script.textContent) < 0; });
  }

  function grow(text) {
    var fresh = new DOMParser().parseFromString(text, "text/html");
    var main = document.querySelector("main"), next = fresh.querySelector("main");
    if (!next) { return; }
    if (needsMore(fresh)) { location.reload(); return; }
    var kept = remember(main), before = specs(document), after = specs(fresh);
    shown = JSON.parse(fresh.getElementById("live").textContent).version;
    var nav = document.querySelector(".top nav"), left = nav ? nav.scrollLeft : 0, links = fresh.querySelector(".top nav");
    if (nav && links) { nav.replaceChildren.apply(nav, [].slice.call(links.childNodes)); nav.scrollLeft = left; }
    document.title = fresh.title;
    next = document.adoptNode(next);
    carry(main, next, before, after);
    main.replaceWith(next);
    var drawn = window.rankscope ? window.rankscope.start() : null;
    restore(next, kept);
    Promise.resolve(drawn).then(function () {
      var now = place(next);
      all(next, ".canvas[id]").forEach(function (box) { box.style.minHeight = ""; });
      goTo(now);
    });
    document.documentElement.setAttribute("data-version", shown);
  }

  // Who has marked text on the page keeps it: the page grows when it is let go.
  function isHeld() {
    var marked = window.getSelection();
    return marked && !marked.isCollapsed && document.querySelector("main").contains(marked.anchorNode);
  }

  function answered(answer) {
    if (answer.status === 403) { throw new Error("This page's key is no longer the server's: open the address that " +
      "rankscope view printed"); }
    if (!answer.ok) { throw new Error("The server can't say how the study goes (" + answer.status + ")"); }
    return answer;
  }

  function ask() {
    if (isBusy || document.hidden) { return; }
    isBusy = true;
    fetch(told.ask).then(answered).then(function (answer) { return answer.json(); }).then(function (state) {
      show(state);
      if (!state.version || state.version === shown || isHeld()) { return null; }
      return fetch(location.pathname).then(answered).then(function (answer) { return answer.text(); }).then(grow);
    }).catch(function (problem) {
      lost(problem instanceof TypeError ? "The server has ended: this is the page as it was" : problem.message);
    }).then(function () { isBusy = false; });
  }

  document.querySelector("footer p").textContent = "Made by rankscope, live: it is sent by this machine, to this machine.";
  document.addEventListener("visibilitychange", ask);
  setInterval(ask, EVERY);
  ask();
})();
