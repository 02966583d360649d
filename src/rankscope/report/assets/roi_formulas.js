// The language of rankscope.stats.formulas and the lines of rankscope.stats.roi once more: the same operations on doubles
// in the same order, so the page and the command line agree. No eval: the page forbids it. Defines rankscope.roi.
(function (rankscope) {
  "use strict";
  var TOKEN = /\s*(?:(\d+(?:\.\d+)?(?:e[+-]?\d+)?)|([a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?)|([-+*/(),]))/y;
  var NAME = /(^|[^\w.])([a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?)(?!\w*\()/g;
  var TAGS = ["", "measured", "typed", "modelled"];
  var UNTYPED = " is not typed", NO_GPU = "no gpu is named";
  var trees = new Map();

  // ---- amounts

  function amount(value, tag, low, high) {
    return { value: value, low: low === undefined ? value : low, high: high === undefined ? value : high, tag: tag || "",
      reasons: [], leftOut: [], noInterval: [] };
  }

  function absent(reasons) {
    return { value: null, low: NaN, high: NaN, tag: "", reasons: reasons, leftOut: [], noInterval: [] };
  }

  function unique(lists) { return Array.from(new Set([].concat.apply([], lists))); }

  function joined(parts, value, low, high) {
    if (value === null) {
      return absent(unique(parts.filter(function (p) { return p.value === null; }).map(function (p) { return p.reasons; })));
    }
    if (!isFinite(value)) { return absent(["too large to compute"]); }
    var tag = Math.max.apply(null, parts.map(function (p) { return TAGS.indexOf(p.tag); }));
    return { value: value, low: low, high: high, tag: TAGS[tag],
      reasons: unique(parts.map(function (p) { return p.reasons; })),
      leftOut: unique(parts.map(function (p) { return p.leftOut; })),
      noInterval: unique(parts.map(function (p) { return p.noInterval; })) };
  }

  // ---- the language

  function parse(text) {
    if (trees.has(text)) { return trees.get(text); }
    var words = [], place = 0, found;
    while (text.slice(place).trim()) {
      TOKEN.lastIndex = place;
      found = TOKEN.exec(text);
      if (!found) { throw new Error("not a formula: " + text); }
      words.push(found[1] !== undefined ? [1, found[1]] : found[2] !== undefined ? [2, found[2]] : [3, found[3]]);
      place = TOKEN.lastIndex;
    }
    var tree = sum(words);
    if (words.length) { throw new Error("not a formula: " + text); }
    trees.set(text, tree);
    return tree;
  }

  function take(words, signs) {
    return words.length && words[0][0] === 3 && signs.indexOf(words[0][1]) >= 0 ? words.shift()[1] : null;
  }

  function need(words, sign) { if (take(words, sign) === null) { throw new Error(sign + " is missing"); } }

  function sum(words) {
    var tree = product(words), sign;
    while ((sign = take(words, "+-")) !== null) { tree = [sign, tree, product(words)]; }
    return tree;
  }

  function product(words) {
    var tree = factor(words), sign;
    while ((sign = take(words, "*/")) !== null) { tree = [sign, tree, factor(words)]; }
    return tree;
  }

  function factor(words) {
    if (take(words, "-") !== null) { return ["minus", factor(words)]; }
    if (take(words, "(") !== null) { var tree = sum(words); need(words, ")"); return tree; }
    var word = words.shift();
    if (word && word[0] === 1) { return ["number", Number(word[1])]; }
    if (!word || word[0] !== 2) { throw new Error("not a formula"); }
    if (take(words, "(") === null) { return ["name", word[1]]; }
    var parts = [sum(words)];
    while (take(words, ",") !== null) { parts.push(sum(words)); }
    need(words, ")");
    return ["call", word[1]].concat(parts);
  }

  function names(tree) {
    if (tree[0] === "name") { return [tree[1]]; }
    return unique(tree.slice(1).filter(Array.isArray).map(names));
  }

  function evaluate(tree, scope) {
    var kind = tree[0];
    if (kind === "number") { return amount(tree[1]); }
    if (kind === "name") {
      if (!scope.has(tree[1])) { throw new Error("unknown name " + tree[1]); }
      return scope.get(tree[1]);
    }
    if (kind === "minus") {
      var part = evaluate(tree[1], scope);
      return part.value === null ? part : Object.assign({}, part, { value: -part.value, low: -part.high, high: -part.low });
    }
    if (kind === "call") {
      return call(tree[1], tree.slice(2).map(function (t) { return evaluate(t, scope); }),
        tree.slice(2).map(function (t) { return t[0] === "name" ? t[1] : "a part"; }));
    }
    return operate(kind, evaluate(tree[1], scope), evaluate(tree[2], scope));
  }

  function operate(sign, a, b) {
    if (a.value === null || b.value === null) { return joined([a, b], null); }
    if (sign === "+") { return joined([a, b], a.value + b.value, a.low + b.low, a.high + b.high); }
    if (sign === "-") { return joined([a, b], a.value - b.value, a.low - b.high, a.high - b.low); }
    if (sign === "*") {
      var ends = [times(a.low, b.low), times(a.low, b.high), times(a.high, b.low), times(a.high, b.high)];
      return joined([a, b], a.value * b.value, least(ends), most(ends));
    }
    if (b.value === 0) { return absent(["division by zero"]); }
    if (b.low < 0 && b.high > 0) { return joined([a, b], a.value / b.value, -Infinity, Infinity); }
    var side = b.high > 0 ? 1 : -1;
    var quotients = [over(a.low, b.low, side), over(a.low, b.high, side), over(a.high, b.low, side), over(a.high, b.high, side)];
    return joined([a, b], a.value / b.value, least(quotients), most(quotients));
  }

  function call(name, parts, labels) {
    var there = parts.filter(function (p) { return p.value !== null; });
    if (name === "first") { return there.length ? there[0] : absent(unique([parts[parts.length - 1].reasons])); }
    if (name === "known" && there.length) {
      var lost = labels.filter(function (label, i) { return parts[i].value === null; });
      var total = there.slice(1).reduce(function (a, b) { return operate("+", a, b); }, there[0]);
      return Object.assign({}, total, { leftOut: unique([total.leftOut, lost]),
        reasons: unique(parts.map(function (p) { return p.reasons; })) });
    }
    if (there.length < parts.length) { return joined(parts, null); }
    var part = parts[0];
    if (name === "above") {
      if (part.value <= 0) { return absent([labels[0] + " is not above zero"]); }
      return Object.assign({}, part, { low: Math.max(part.low, 0) });
    }
    if (name === "ceil") { return joined(parts, Math.ceil(part.value), Math.ceil(part.low), Math.ceil(part.high)); }
    if (name === "cbrt") {
      if (part.value < 0) { return absent([labels[0] + " is below zero"]); }
      return joined(parts, root(part.value), root(Math.max(part.low, 0)), root(Math.max(part.high, 0)));
    }
    var pick = { min: least, max: most }[name];
    if (!pick) { throw new Error("no function " + name); }
    return joined(parts, pick(parts.map(function (p) { return p.value; })), pick(parts.map(function (p) { return p.low; })),
      pick(parts.map(function (p) { return p.high; })));
  }

  function least(list) { return Math.min.apply(null, list); }
  function most(list) { return Math.max.apply(null, list); }
  function times(x, y) { return x === 0 || y === 0 ? 0 : x * y; }

  function over(x, y, side) {
    if (y === 0) { return x === 0 ? 0 : Math.sign(x) * Infinity * side; }
    if (!isFinite(y)) { return isFinite(x) ? 0 : Math.sign(x) * Infinity * side; }
    return x / y;
  }

  function root(x) {
    if (x === 0 || x === Infinity) { return x; }
    var guess = Math.max(x, 1), better;
    for (var i = 0; i < 3000; i += 1) {
      better = guess - (guess - x / guess / guess) / 3;
      if (better >= guess) { break; }
      guess = better;
    }
    return guess;
  }

  // ---- the lines

  function given(data, typed, gpuName, place) {
    var gpu = data.gpus.find(function (g) { return g.name === gpuName; }), found = new Map();
    var sheet = gpu ? { gpu_tflops: gpu.flops && gpu.flops / 1e12, gpu_memory_gb: gpu.memory_bytes / 1e9 } : {};
    data.inputs.forEach(function (entry) {
      var name = entry.name;
      if (typed[name]) { found.set(name, amount(typed[name][place], "typed")); }
      else if (sheet[name]) { found.set(name, amount(sheet[name], "typed")); }
      else if (entry.assumed) { found.set(name, amount(entry.assumed[place], "modelled")); }
      else { found.set(name, absent([name === "gpu_tflops" || name === "gpu_memory_gb" ? NO_GPU : name + UNTYPED])); }
    });
    return found;
  }

  function known(name, q) {
    if (q.value === null) { return absent([q.reason || name + " was not measured"]); }
    if (q.low === null || q.high === null) {
      var found = amount(q.value, "measured");
      if (q.reason) { found.noInterval = [name + " (" + q.reason + ")"]; }
      return found;
    }
    return amount(q.value, "measured", Number(String(q.low).replace("inf", "Infinity")),
      Number(String(q.high).replace("inf", "Infinity")));
  }

  // All arms' lines of one case: a list of {arm, lines}, in the case's order.
  function compute(data, item, typed, gpuName, scenario) {
    var shared = given(data, typed, gpuName, data.scenarios.indexOf(scenario));
    Object.keys(item.shared).forEach(function (name) { shared.set(name, known(name, item.shared[name])); });
    var full = item.arms.find(function (arm) { return arm.kind === "full"; }), against = new Map(), lines = new Map();
    Object.keys(data.measured).concat(data.formulas.map(function (f) { return f.name; })).forEach(function (name) {
      against.set("full." + name, absent([data.no_full]));
    });
    var order = (full ? [full] : []).concat(item.arms.filter(function (arm) { return arm !== full; }));
    order.forEach(function (arm) {
      var scope = new Map(shared);
      against.forEach(function (value, name) { scope.set(name, value); });
      Object.keys(arm.measured).forEach(function (name) { scope.set(name, known(name, arm.measured[name])); });
      lines.set(arm, linesOf(data, arm, scope));
      if (arm === full) {
        scope.forEach(function (value, name) { if (name.indexOf("full.") < 0) { against.set("full." + name, value); } });
      }
    });
    return item.arms.map(function (arm) { return { arm: arm, lines: lines.get(arm) }; });
  }

  function linesOf(data, arm, scope) {
    return data.formulas.filter(function (f) { return !f.only || f.only === arm.kind; }).map(function (formula) {
      var tree = parse(formula.expression), found = evaluate(tree, scope), parts = names(tree), shown = {};
      if (found.value !== null) {
        var isModel = formula.is_modelled || !found.tag || (formula.is_scaled && found.tag !== "measured");
        found = Object.assign({}, found, { tag: isModel ? "modelled" : found.tag });
      }
      parts.forEach(function (name) {
        if (scope.get(name).value !== null) { shown[name] = shortened(scope.get(name).value); }
      });
      scope.set(formula.name, found);
      return { formula: formula, found: found, filled: filled(formula.expression, shown), parts: parts };
    });
  }

  function filled(text, shown) {
    return text.replace(NAME, function (whole, before, name) {
      return before + (Object.prototype.hasOwnProperty.call(shown, name) ? shown[name] : name);
    });
  }

  // The input that a reason asks for, or nothing.
  function untyped(text) { return text.slice(-UNTYPED.length) === UNTYPED ? text.slice(0, -UNTYPED.length) : ""; }

  function said(reasons) {
    var missing = reasons.map(untyped).filter(Boolean), rest = reasons.filter(function (text) { return !untyped(text); });
    return rest.concat(missing.length ? ["not typed: " + missing.join(", ")] : []).join("; ");
  }

  // ---- numbers as text

  function thousands(digits) { return digits.replace(/\B(?=(\d{3})+$)/g, ","); }

  function money(value) {
    if (Math.abs(value) >= 1e13) { return value.toExponential(3); }
    var cents = Math.floor(Math.abs(value) * 100 + 0.5), whole = Math.floor(cents / 100);
    var rest = String(cents - whole * 100).padStart(2, "0");
    return (value < 0 && cents ? "-" : "") + thousands(String(whole)) + "." + rest;
  }

  function shortened(value) {
    if (value === Math.floor(value) && Math.abs(value) < 1e7) { return String(value); }
    return digits(value);
  }

  function digits(value) {
    var size = Math.abs(value);
    if (size >= 1e4 || size < 1e-4) { return value.toExponential(3).replace(/\.?0+e/, "e"); }
    return String(Number(value.toPrecision(4)));
  }

  rankscope.roi = { amount: amount, absent: absent, parse: parse, evaluate: evaluate, compute: compute, said: said, untyped: untyped,
    money: money, digits: digits, thousands: thousands };
})(window.rankscope = window.rankscope || {});
