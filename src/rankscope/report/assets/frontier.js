// The frontier with a slider: how much must be kept? Every sentence and every end of a piece comes with the data; here
// the piece of the share asked for is picked and drawn. No statistics, no words of its own.
(function () {
  "use strict";
  var SVG = "http://www.w3.org/2000/svg";

  function make(name, parent, attributes, text) {
    var svg = parent.namespaceURI === SVG || name === "svg";
    var node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    Object.keys(attributes || {}).forEach(function (key) { node.setAttribute(key, attributes[key]); });
    if (text !== undefined) node.textContent = text;
    parent.appendChild(node);
    return node;
  }

  // The pieces are in order, each up to and with its upper end; the first is for no share at all.
  function pieceOf(pieces, retain) {
    if (retain === null) return pieces[0];
    return pieces.slice(1).find(function (piece) { return retain <= piece.upto; });
  }

  function steps(low, high, most) {
    var rough = (high - low) / most, size = Math.pow(10, Math.floor(Math.log10(rough)));
    var step = size * [1, 2, 5, 10].find(function (by) { return by * size >= rough; }), found = [];
    for (var at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(+at.toPrecision(6));
    return found;
  }

  function extent(arms, name, also) {
    var all = arms.reduce(function (found, arm) { return found.concat(arm[name]); }, also);
    var low = Math.min.apply(null, all), high = Math.max.apply(null, all), pad = (high - low || 1) * 0.05;
    return [low - pad, high + pad];
  }

  function draw(svg, data, now) {
    var arms = data.arms.filter(function (arm) { return arm.kept && arm.gain; });
    var width = Math.max(svg.clientWidth || 700, 280), height = width < 600 ? 300 : 360;
    var left = 52, right = 14, top = 18, bottom = 44;
    svg.textContent = "";
    svg.setAttribute("viewBox", "0 0 " + width + " " + height);
    svg.setAttribute("height", height);
    if (!arms.length) return;
    var xs = extent(arms, "kept", [100]), ys = extent(arms, "gain", []);
    function x(value) { return left + (value - xs[0]) / (xs[1] - xs[0]) * (width - left - right); }
    function y(value) { return height - bottom - (value - ys[0]) / (ys[1] - ys[0]) * (height - top - bottom); }

    var axes = make("g", svg, { class: "axes" });
    steps(xs[0], xs[1], width < 600 ? 5 : 9).forEach(function (at) {
      make("line", axes, { x1: x(at), x2: x(at), y1: top, y2: height - bottom, class: "grid" });
      make("text", axes, { x: x(at), y: height - bottom + 16, "text-anchor": "middle" }, at);
    });
    steps(ys[0], ys[1], 6).forEach(function (at) {
      make("line", axes, { x1: left, x2: width - right, y1: y(at), y2: y(at), class: at === 0 ? "zero" : "grid" });
      make("text", axes, { x: left - 7, y: y(at) + 4, "text-anchor": "end" }, String(at).replace("-", "\u2212"));
    });
    make("text", axes, { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, data.words.kept);
    make("text", axes, { x: 0, y: 0, "text-anchor": "middle",
      transform: "translate(13 " + (top + height - bottom) / 2 + ") rotate(-90)" }, data.words.gain);

    if (now.retain !== null) {
      var asked = Math.min(Math.max(x(100 * now.retain), left), width - right), late = asked > width - 130;
      make("rect", svg, { x: left, y: top, width: asked - left, height: height - top - bottom, class: "short" });
      make("line", svg, { x1: asked, x2: asked, y1: top, y2: height - bottom, class: "asked" });
      make("text", svg, { x: asked + (late ? -5 : 5), y: top - 6, "text-anchor": late ? "end" : "start", class: "asked" },
        now.share + " " + data.words.line);
    }
    var order = { out: 0, other: 1, beaten: 2, possible: 3, recommended: 4 };
    arms = arms.slice().sort(function (a, b) { return order[now.places[a.arm][0]] - order[now.places[b.arm][0]]; });
    arms.forEach(function (arm) { mark(svg, arm, now.places[arm.arm], x, y, data); });
    label(svg, arms, now.places, x, y, width - right);
  }

  function mark(svg, arm, place, x, y, data) {
    var group = make("g", svg, { class: "arm " + place[0] });
    group.style.setProperty("--hue", arm.hue);
    make("title", group, {}, arm.arm + ": " + data.states[place[0]] + (place[1] ? ". " + place[1] : "") + ". " +
      data.words.columns[1] + ": " + arm.kept_text + ". " + data.words.columns[2] + ": " + arm.gain_text);
    var cx = x(arm.kept[0]), cy = y(arm.gain[0]);
    make("line", group, { x1: x(arm.kept[1]), x2: x(arm.kept[2]), y1: cy, y2: cy });
    make("line", group, { x1: cx, x2: cx, y1: y(arm.gain[1]), y2: y(arm.gain[2]) });
    if (place[0] === "recommended") make("circle", group, { cx: cx, cy: cy, r: 12, class: "ring" });
    if (arm.kind === "full") make("rect", group, { x: cx - 5.5, y: cy - 5.5, width: 11, height: 11 });
    else make("circle", group, { cx: cx, cy: cy, r: 6 });
  }

  // Names beside the marks, the most important first; one that finds no room near its mark is left to the table.
  function label(svg, arms, places, x, y, end) {
    var marks = arms.map(function (arm) { return [x(arm.kept[0]), y(arm.gain[0]), arm.arm]; });
    // Boxes as [left, right, top, bottom].
    var taken = marks.map(function (at) {
      var half = places[at[2]][0] === "recommended" ? 13 : 7;
      return [at[0] - half, at[0] + half, at[1] - half, at[1] + half];
    });
    arms.slice().reverse().forEach(function (arm) {
      var state = places[arm.arm][0], node = make("text", svg, { class: "name " + state }, arm.arm);
      var long = node.getComputedTextLength(), cx = x(arm.kept[0]), cy = y(arm.gain[0]), gap = state === "recommended" ? 15 : 9;
      var spots = [];
      [-7, 16, -20, 29, -33, 42].forEach(function (down) {
        spots.push([cx + gap, cy + down], [cx - gap - long, cy + down], [cx - long / 2, cy + down * 1.3]);
      });
      var free = spots.map(function (at) { return [at[0] - 2, at[0] + long + 2, at[1] - 10, at[1] + 3, at]; }).find(function (box) {
        return box[0] >= 50 && box[1] <= end && taken.every(function (other) {
          return box[0] > other[1] || box[1] < other[0] || box[2] > other[3] || box[3] < other[2];
        });
      });
      if (!free) return node.remove();
      taken.push(free);
      node.setAttribute("x", free[4][0]);
      node.setAttribute("y", free[4][1]);
    });
  }

  function controls(box, data, id) {
    var words = data.words, form = make("div", box, { class: "terms" });
    var ask = make("div", form, { class: "ask" });
    make("label", ask, { for: id + "-share" }, words.slider);
    var output = make("output", ask, { for: id + "-share" });
    var slider = make("input", ask, { type: "range", id: id + "-share", min: 0, max: 100, step: 1 });
    var ticks = make("div", ask, { class: "ticks", "aria-hidden": "true", title: words.ticks });
    make("small", ask, {}, words.ticks + ". " + words.own);
    var group = make("fieldset", form, {});
    make("legend", group, {}, words.prefer);
    var choices = data.preferences.map(function (pair) {
      var holder = make("label", group, {});
      var input = make("input", holder, { type: "radio", name: id + "-prefer", value: pair[0] });
      input.checked = pair[0] === data.prefer;
      holder.appendChild(document.createTextNode(" " + pair[1]));
      return input;
    });
    return { slider: slider, output: output, ticks: ticks, choices: choices };
  }

  function table(box, data) {
    var holder = make("details", box, { class: "fold" });
    make("summary", holder, {}, data.words.table);
    var scroll = make("div", holder, { class: "scroll", tabindex: "0", role: "region", "aria-label": data.words.table });
    var grid = make("table", scroll, {}), heads = make("tr", make("thead", grid, {}), {});
    data.words.columns.forEach(function (title) { make("th", heads, { scope: "col" }, title); });
    var body = make("tbody", grid, {});
    return data.arms.map(function (arm) {
      var row = make("tr", body, {});
      make("th", row, { scope: "row" }, arm.arm);
      make("td", row, {}, arm.kept_text);
      make("td", row, {}, arm.gain_text);
      return [make("td", row, {}), make("td", row, {})];
    });
  }

  window.rankscope.widget("frontier", function (box, data) {
    var id = box.id, words = data.words;
    make("p", box, { class: "title" }, words.title);
    var ui = controls(box, data, id);
    var live = make("div", box, { class: "answer", role: "status" });
    var first = make("p", live, { class: "head" }), why = make("p", live, { class: "why-so" });
    var svg = make("svg", box, { class: "plane", role: "img", width: "100%" });
    make("p", box, { class: "caption" }, words.caption);
    var cells = table(box, data), own = data.retain;
    // The study's own share may lie between two steps of the slider; it holds until the slider is moved.
    ui.slider.value = own === null ? 0 : Math.round(100 * own);

    function put(node, text) { if (node.textContent !== text) node.textContent = text; }

    function show() {
      var retain = own !== null ? own : +ui.slider.value === 0 ? null : +ui.slider.value / 100;
      var prefer = ui.choices.find(function (input) { return input.checked; }).value;
      var share = retain === null ? words.unasked : +(100 * retain).toFixed(4) + " %";
      var exact = retain === null ? "" : (100 * retain).toFixed(1) + "%";
      var choice = pieceOf(data.pieces, retain).choices[prefer], places = {};
      data.arms.forEach(function (arm, i) {
        var place = choice.arms[i], reason = data.texts[place[1]].split(words.asked).join(exact);
        places[arm.arm] = [place[0], reason];
        put(cells[i][0], data.states[place[0]]);
        put(cells[i][1], reason);
        cells[i][0].parentNode.className = place[0];
      });
      put(ui.output, share);
      ui.slider.setAttribute("aria-valuetext", share);
      put(first, data.texts[choice.head]);
      put(why, data.texts[choice.said]);
      svg.setAttribute("aria-label", box.getAttribute("aria-label") + ", " + share + ". " + data.texts[choice.head] + ". " +
        words.table + ": " + data.arms.map(function (arm) { return arm.arm + " " + data.states[places[arm.arm][0]]; }).join(", "));
      ui.ticks.textContent = "";
      data.ticks[prefer].forEach(function (at) { make("i", ui.ticks).style.left = 100 * at + "%"; });
      draw(svg, data, { retain: retain, share: share, places: places });
    }

    ui.slider.addEventListener("input", function () { own = null; show(); });
    ui.choices.forEach(function (input) { input.addEventListener("change", show); });
    show();
    if (window.ResizeObserver) {
      var wide = svg.clientWidth;
      new ResizeObserver(function () { if (svg.clientWidth !== wide) { wide = svg.clientWidth; show(); } }).observe(svg);
    }
  });
})();
