// Keeps a page of `rankscope view` up to date: asks the server every two seconds how the study goes and, when the page
// it would send has changed, puts the new <main> in the place of the old one. The reader's place, what is unfolded,
// fields and charts that haven't changed are kept. Asks nobody but the server that sent the page.
(function () {
  "use strict";
  var EVERY = 2000, KEPT = "rankscope-kept " + location.pathname, SVG = "http://www.w3.org/2000/svg";
  var told = JSON.parse(document.getElementById("live").textContent), shown = told.version, isBusy = false;

  // ---- the bar: made once, then only changed, since a link that is replaced loses the focus

  var bar = document.body.appendChild(document.createElement("aside"));
  bar.id = "live-bar";
  bar.setAttribute("aria-label", "How the study goes");
  bar.hidden = true;

  function piece(tag, kind) {
    var node = bar.appendChild(document.createElement(tag));
    if (kind) { node.className = kind; }
    node.hidden = true;
    return node;
  }

  var said = piece("span", "said"), runs = piece("progress"), work = piece("span", "part");
  var loss = piece("span", "part"), curve = loss.appendChild(document.createElementNS(SVG, "svg"));
  var line = curve.appendChild(document.createElementNS(SVG, "path"));
  var lossText = loss.appendChild(document.createTextNode("")), problem = piece("span", "problem"), home = piece("a");
  runs.setAttribute("aria-label", "Runs done");
  home.href = "/";
  home.textContent = "All studies of this store";
  curve.setAttribute("viewBox", "0 0 100 20");
  curve.setAttribute("preserveAspectRatio", "none");
  curve.setAttribute("aria-hidden", "true");

  function put(node, text) {
    node.hidden = !text;
    if (node.textContent !== text) { node.textContent = text; }
  }

  function path(losses) {
    var steps = losses.map(function (p) { return p[0]; }), values = losses.map(function (p) { return p[1]; });
    var first = steps[0], wide = steps[steps.length - 1] - first || 1;
    var low = Math.min.apply(null, values), tall = Math.max.apply(null, values) - low || 1;
    return losses.map(function (p, i) {
      var x = 100 * (p[0] - first) / wide, y = 19 - 18 * (p[1] - low) / tall;
      return (i ? "L" : "M") + x.toFixed(2) + " " + y.toFixed(2);
    }).join("");
  }

  function show(state) {
    var losses = state.losses || [];
    bar.setAttribute("data-state", state.running ? "running" : "still");
    put(said, state.said || "");
    runs.hidden = !(state.running && state.total);
    if (!runs.hidden) { runs.max = state.total; runs.value = state.done; }
    put(work, state.work || "");
    loss.hidden = losses.length < 2;
    if (!loss.hidden) {
      line.setAttribute("d", path(losses));
      var last = losses[losses.length - 1][1].toFixed(3);
      lossText.data = " training loss so far " + last + ": unfinished, in no estimate";
    }
    put(problem, state.problem || "");
    bar.hidden = [said, runs, work, loss, problem].every(function (node) { return node.hidden; });
    home.hidden = bar.hidden || location.pathname === "/";
  }

  function lost(words) {
    bar.setAttribute("data-state", "lost");
    [runs, work, loss, problem].forEach(function (node) { node.hidden = true; });
    put(said, words);
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

  function keyOf(known, element) {
    return Object.keys(known).find(function (key) { return known[key] === element; });
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

  // Whatever can hold the focus, by the nearest holder with an id, its tag and its place among such.
  function stops(root) {
    return named(all(root, "a[href], button, summary, input, select, textarea, [tabindex]"), function (element) {
      return (element.id || holder(element)) + "|" + element.tagName;
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

  // A widget with more to remember than its fields has ``keep`` on its box, and ``recall``, which is told that later.
  function remember(root) {
    var kept = { open: {}, scrolled: {}, fields: {}, widgets: {}, place: place(root) };
    var known = folds(root), rolled = boxes(root), asked = fields(root), focused = document.activeElement;
    Object.keys(known).forEach(function (key) {
      kept.open[key] = known[key].open;
      if (known[key].querySelector("summary") === focused) { kept.fold = key; }
    });
    Object.keys(rolled).forEach(function (key) { kept.scrolled[key] = [rolled[key].scrollLeft, rolled[key].scrollTop]; });
    Object.keys(asked).forEach(function (key) { kept.fields[key] = [asked[key].value, Boolean(asked[key].checked)]; });
    all(root, ".widget[id]").forEach(function (box) { if (box.keep) { kept.widgets[box.id] = box.keep(); } });
    kept.focus = keyOf(stops(root), focused);
    return kept;
  }

  // A radio that wasn't chosen is left to the one that was: where none is chosen, a widget can't say what it shows.
  function refill(field, was) {
    if (!was || (field.type === "radio" && !was[1])) { return; }
    if (field.value === was[0] && Boolean(field.checked) === was[1]) { return; }
    var isSelect = field.tagName === "SELECT", options = isSelect ? [].slice.call(field.options) : [];
    if (isSelect && !options.some(function (option) { return option.value === was[0]; })) { return; }
    if (field.type === "radio" || field.type === "checkbox") { field.checked = was[1]; } else { field.value = was[0]; }
    ["input", "change"].forEach(function (kind) { field.dispatchEvent(new Event(kind, { bubbles: true })); });
  }

  function restore(root, kept) {
    var asked = fields(root);
    Object.keys(asked).forEach(function (key) { refill(asked[key], kept.fields[key]); });
    all(root, ".widget[id]").forEach(function (box) {
      if (box.recall && box.id in kept.widgets) { box.recall(kept.widgets[box.id]); }
    });
    // Only now: what is filtered brings folds of its own.
    var known = folds(root), rolled = boxes(root);
    Object.keys(known).forEach(function (key) { if (key in kept.open) { known[key].open = kept.open[key]; } });
    Object.keys(rolled).forEach(function (key) {
      var was = kept.scrolled[key];
      if (was) { rolled[key].scrollLeft = was[0]; rolled[key].scrollTop = was[1]; }
    });
    var head = known[kept.fold] && known[kept.fold].querySelector("summary"), found = head || stops(root)[kept.focus];
    if (found) { found.focus({ preventScroll: true }); }
    goTo(kept.place);
  }

  // Over a reload, in this tab alone; the browser itself finds the place again.
  function keepOver(kept) {
    kept.place = null;
    try { window.sessionStorage.setItem(KEPT, JSON.stringify(kept)); } catch (refused) { return; }
  }

  function keptOver() {
    try {
      var text = window.sessionStorage.getItem(KEPT);
      window.sessionStorage.removeItem(KEPT);
      return JSON.parse(text);
    } catch (refused) { return null; }
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
    if (needsMore(fresh)) { keepOver(remember(main)); location.reload(); return; }
    var kept = remember(main), before = specs(document), after = specs(fresh);
    shown = JSON.parse(fresh.getElementById("live").textContent).version;
    var nav = document.querySelector(".top nav"), left = nav ? nav.scrollLeft : 0, links = fresh.querySelector(".top nav");
    if (nav && links && nav.textContent !== links.textContent) {
      nav.replaceChildren.apply(nav, [].slice.call(links.childNodes));
      nav.scrollLeft = left;
    }
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

  var before = keptOver();
  if (before) { restore(document.querySelector("main"), before); }
  document.querySelector("footer p").textContent =
    "Made by rankscope, live: it is sent by this machine, to this machine.";
  document.addEventListener("visibilitychange", ask);
  setInterval(ask, EVERY);
  ask();
})();
