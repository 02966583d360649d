// The calculator: a form for what only the reader knows, and every line computed again as it changes (roi_formulas.js).
// Prices start empty. Text goes in as text only; nothing leaves the page.
(function (rankscope) {
  "use strict";
  var roi = rankscope.roi, PAUSE = 700;
  var COLUMNS = [["A year's cost", "cost"], ["Savings a year", "savings"], ["Engineer hours", "engineer_hours_reclaimed"],
    ["GPU hours", "gpu_hours_reclaimed"], ["Months to pay", "break_even_months"], ["Cost per point", "cost_per_point"]];
  var NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;
  // Text like 2,000,000 could also be three values.
  var GROUPED = /^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$/;

  function make(tag, attributes, children) {
    var node = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) {
      if (attributes[name] !== undefined && attributes[name] !== false) { node.setAttribute(name, attributes[name]); }
    });
    [].concat(children === undefined ? [] : children).forEach(function (child) { node.append(child); });
    return node;
  }

  function choice(options, selected) {
    return make("select", {}, options.map(function (o) {
      return make("option", { value: o[0], selected: o[0] === selected ? "" : undefined }, o[1]);
    }));
  }

  // ---- one typed number, or three

  function triple(text, entry) {
    var list = /^\[(.*)\]$/.exec(text), parts = (list ? list[1] : text).split(",");
    if (!list && GROUPED.test(text)) {
      throw new Error("no thousands separators; three values in brackets: [low, base, high]");
    }
    parts = parts.map(function (part) { return part.trim(); });
    var isOne = parts.length === 1 && !list, isNumeric = parts.every(function (part) { return NUMBER.test(part); });
    if (!isNumeric || !(isOne || parts.length === 3)) { throw new Error("one number, or three: low, base, high"); }
    var values = parts.map(Number);
    if (!values.every(isFinite)) { throw new Error("one number, or three: low, base, high"); }
    if (entry.is_positive && values.some(function (x) { return x <= 0; })) { throw new Error("must be greater than 0"); }
    if (values.some(function (x) { return x < 0; })) { throw new Error("must be at least 0"); }
    if (entry.most !== null && values.some(function (x) { return x > entry.most; })) {
      throw new Error("must be at most " + entry.most);
    }
    return values.length === 1 ? [values[0], values[0], values[0]] : values;
  }

  function numberText(values) {
    var texts = values.map(function (x) { return String(x === 0 ? 0 : x); });
    return texts[0] === texts[1] && texts[1] === texts[2] ? texts[0] : "[" + texts.join(", ") + "]";
  }

  // ---- the prices file: flat, the same lines as rankscope.config.prices writes

  function toYaml(data, state) {
    var lines = [data.yaml_head, "currency: " + JSON.stringify(state.currency) + "\n"];
    if (state.gpu) { lines.push("gpu: " + JSON.stringify(state.gpu) + "\n"); }
    Object.keys(data.input_groups).forEach(function (group) {
      var mine = data.inputs.filter(function (e) { return e.group === group && state.typed[e.name]; });
      if (mine.length) { lines.push("\n# " + data.input_groups[group] + "\n"); }
      mine.forEach(function (e) { lines.push(e.name + ": " + numberText(state.typed[e.name]) + "\n"); });
    });
    return lines.join("");
  }

  function fromYaml(data, text) {
    var found = { currency: "", gpu: "", texts: {} };
    text.split(/\r?\n/).forEach(function (line, i) {
      var where = "line " + (i + 1) + ": ";
      if (/^\s*(#.*)?$/.test(line)) { return; }
      var parts = /^([A-Za-z_][A-Za-z0-9_]*)\s*:(?:\s+|$)(.*)$/.exec(line);
      if (!parts) { throw new Error(where + "not a line 'key: value'"); }
      var key = parts[1], value = scalar(parts[2], where);
      if (key === "currency" || key === "gpu") {
        if (found[key]) { throw new Error(where + "the key " + key + " is given twice"); }
        found[key] = value;
        if (key === "gpu" && value && !data.gpus.some(function (g) { return g.name === value; })) {
          throw new Error(where + "no such GPU is known: " + value);
        }
        return;
      }
      var entry = data.inputs.find(function (e) { return e.name === key; });
      if (!entry) { throw new Error(where + "unknown key " + key); }
      if (key in found.texts) { throw new Error(where + "the key " + key + " is given twice"); }
      if (value === "") { return; }
      try { triple(value, entry); } catch (error) { throw new Error(where + key + ": " + error.message); }
      found.texts[key] = value;
    });
    if (!found.currency) { throw new Error("currency is missing"); }
    return found;
  }

  function scalar(text, where) {
    if (text[0] === '"') {
      var quoted = /^("(?:[^"\\]|\\.)*")\s*(#.*)?$/.exec(text);
      try { return JSON.parse(quoted[1]); } catch { throw new Error(where + "not text in quotes"); }
    }
    if (text[0] === "'") {
      var single = /^'((?:[^']|'')*)'\s*(#.*)?$/.exec(text);
      if (!single) { throw new Error(where + "not text in quotes"); }
      return single[1].replace(/''/g, "'");
    }
    return text.replace(/(^|\s)#.*$/, "").trim();
  }

  // ---- numbers for reading

  function sized(value, unit) {
    if (unit.indexOf("money") === 0) { return roi.money(value); }
    if (unit === "bytes") {
      var size = [["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(function (s) { return Math.abs(value) >= s[1]; });
      return size ? Number((value / size[1]).toPrecision(3)) + " " + size[0] : Math.round(value) + " B";
    }
    var isWhole = (Math.abs(value) >= 1000 || value === Math.floor(value)) && Math.abs(value) < 1e12;
    return isWhole ? (value < 0 ? "-" : "") + roi.thousands(String(Math.round(Math.abs(value)))) : roi.digits(value);
  }

  function unitText(unit, currency) {
    var known = { "money": currency, "money/point": currency + " a point", "share": "", "count": "", "bytes": "",
      "money/million tokens": currency + " a million tokens" };
    return (unit in known ? known[unit] : unit).trim();
  }

  function interval(found, unit) {
    if (found.value === null || found.low === found.high) { return ""; }
    return "[" + [found.low, found.high].map(function (x) { return isFinite(x) ? sized(x, unit) : "unbounded"; }).join(", ") + "]";
  }

  // ---- the widget

  rankscope.widget("roi", function (box, data) {
    var fields = {}, examples = new Set(), outputs = {}, count = 0, pause = null;
    // Chosen by name: a live page makes this anew, and the places of cases and arms shift when one is added.
    var caseNames = data.cases.map(function (c) { return c.model + ", trained on " + c.train; });
    var caseBox = choice(caseNames.map(function (name) { return [name, name]; }), caseNames[0]);
    var armBox = make("select");
    var currency = make("input", { type: "text", maxlength: "12", size: "6", autocomplete: "off", name: "currency" });
    var gpu = choice([["", "this machine, as measured"]].concat(data.gpus.map(function (g) { return [g.name, g.name]; })), "");
    gpu.name = "gpu";
    var yaml = make("textarea", { rows: "12", spellcheck: "false" });
    var status = make("p", { role: "status", "class": "roi-status" });
    var mark = make("p", { "class": "roi-example", hidden: "" }, "Example values, not yours: type over them.");
    var tiles = make("div", { "class": "roi-tiles" }), heard = make("p", { role: "status", "class": "roi-heard" });
    var table = make("div", { "class": "scroll", tabindex: "0", role: "region", "aria-label": "All arms" });
    var lines = make("div");
    var scenarios = make("fieldset", { "class": "roi-scenarios" }, [make("legend", {}, "Scenario")].concat(
      data.scenarios.map(function (name) {
        var radio = make("input", { type: "radio", name: box.id + "-scenario", value: name });
        radio.checked = name === "base";
        return make("label", {}, [radio, " " + name]);
      })));

    // Ids come from the box's own, so that a live page finds each field of this part again when it is made anew.
    function labelled(label, control, more) {
      control.id = box.id + "-" + (count += 1);
      var parts = [make("label", { "for": control.id }, label), control].concat(more || []);
      return make("div", { "class": "roi-field" }, parts);
    }

    function state() {
      var typed = {};
      data.inputs.forEach(function (entry) {
        var field = fields[entry.name], text = field.input.value.trim(), problem = "";
        if (text) { try { typed[entry.name] = triple(text, entry); } catch (error) { problem = error.message; } }
        if (problem) { field.input.setAttribute("aria-invalid", "true"); } else { field.input.removeAttribute("aria-invalid"); }
        field.problem.textContent = problem;
        field.unit.textContent = entry.unit.replace("CUR", currency.value.trim() || "money");
      });
      return { currency: currency.value.trim(), gpu: gpu.value, typed: typed,
        scenario: scenarios.querySelector("input:checked").value };
    }

    function refresh() {
      var now = state(), item = data.cases[caseBox.selectedIndex], results = {};
      data.scenarios.forEach(function (name) { results[name] = roi.compute(data, item, now.typed, now.gpu, name); });
      var rows = results[now.scenario], place = armBox.selectedIndex;
      tiles.replaceChildren.apply(tiles, data.headlines.map(function (name) { return tile(name, place, results, now); }));
      table.replaceChildren(overview(rows, now));
      drawLines(rows[place], now);
      if (document.activeElement !== yaml) { yaml.value = now.currency ? toYaml(data, now) : ""; }
      return inWords(rows[place], now);
    }

    // Who listens hears one line once typing pauses, not five tiles at every key.
    function changed() {
      var words = refresh();
      clearTimeout(pause);
      pause = setTimeout(function () { heard.textContent = words; }, PAUSE);
    }

    function inWords(row, now) {
      var line = lineOf(row, "savings") || lineOf(row, "cost"), found = line.found, unit = line.formula.unit;
      var said = found.value === null ? "not known: " + inShort(found.reasons)
        : sized(found.value, unit) + " " + unitText(unit, now.currency);
      return row.arm.name + ", scenario " + now.scenario + ": " + titleOf(line.formula.name) + ": " + said;
    }

    function lineOf(row, name) { return row.lines.find(function (line) { return line.formula.name === name; }); }

    function tile(name, place, results, now) {
      var line = lineOf(results[now.scenario][place], name), parts = [];
      var title = data.formulas.find(function (f) { return f.name === name; }).title;
      if (!line) { return make("div", { "class": "roi-tile" }, [make("h4", {}, title), "only for LoRA, against full SFT"]); }
      var found = line.found, unit = line.formula.unit, isLoss = found.value !== null && found.value < 0;
      parts.push(make("h4", {}, title));
      if (found.value === null) { parts.push(make("p", { "class": "roi-none" }, "not known: " + inShort(found.reasons))); }
      else {
        parts.push(make("p", { "class": "roi-big" }, [sized(found.value, unit), make("small", {}, unitText(unit, now.currency))]));
        parts.push(make("p", { "class": "roi-small" }, [interval(found, unit) + " ", make("span", { "class": "roi-tag " + found.tag }, found.tag)]));
        if (isLoss && name === "savings") { parts.push(make("p", { "class": "roi-small" }, "LoRA costs more than full SFT here.")); }
        if (found.leftOut.length) { parts.push(make("p", { "class": "roi-small" }, "without " + found.leftOut.map(titleOf).join(", "))); }
      }
      if (name === "savings" && data.scenarios.some(function (s) { return lineOf(results[s][place], name).found.value !== null; })) {
        parts.push(make("p", { "class": "roi-small" }, data.scenarios.map(function (s) {
          var value = lineOf(results[s][place], name).found.value;
          return s + " " + (value === null ? "not known" : roi.money(value));
        }).join(" · ")));
        if (!isRising(data.scenarios.map(function (s) { return lineOf(results[s][place], name).found.value; }))) {
          parts.push(make("p", { "class": "roi-small warn" },
            "Savings do not rise from low to high: begin each list with the value that saves least."));
        }
      }
      return make("div", { "class": "roi-tile" + (isLoss ? " bad" : ""), "data-tile": name }, parts);
    }

    function inShort(reasons) {
      var other = reasons.filter(function (text) { return !roi.untyped(text); });
      var fields = reasons.map(roi.untyped).filter(Boolean).map(function (name) {
        return data.inputs.find(function (e) { return e.name === name; }).title;
      });
      var asked = fields.slice(0, 3).join(", ") + (fields.length > 3 ? " and " + (fields.length - 3) + " more" : "");
      return other.concat(fields.length ? ["type " + asked] : []).join("; ");
    }

    function isRising(values) {
      return values.includes(null) || (values[0] <= values[1] && values[1] <= values[2]);
    }

    function isMoney(name) {
      return data.formulas.some(function (f) { return f.name === name && f.unit.indexOf("money") === 0; });
    }

    function titleOf(name) {
      var formula = data.formulas.find(function (f) { return f.name === name; });
      return formula ? formula.title.toLowerCase() : name;
    }

    function overview(rows, now) {
      var head = make("tr", {}, [make("th", { scope: "col" }, "Arm")].concat(COLUMNS.map(function (c) {
        var unit = unitText(data.formulas.find(function (f) { return f.name === c[1]; }).unit, now.currency);
        return make("th", { scope: "col", "class": "num" }, c[0] + (unit && isMoney(c[1]) ? " (" + unit + ")" : ""));
      })));
      return make("table", {}, [make("caption", {}, "All arms, scenario " + now.scenario), make("thead", {}, head),
        make("tbody", {}, rows.map(function (row) {
          var name = row.arm.name + (row.arm.is_recommended ? " (recommended)" : "");
          return make("tr", {}, [make("th", { scope: "row" }, name)].concat(COLUMNS.map(function (c) {
            var line = lineOf(row, c[1]), found = line && line.found, is = found && found.value !== null;
            return make("td", { "class": "num" + (is && found.value < 0 ? " bad" : ""), "data-arm": row.arm.name, "data-line": c[1],
              "data-value": is ? String(found.value) : undefined,
              title: found && !is ? "not known: " + roi.said(found.reasons) : undefined },
              make("span", { "class": "text" }, is ? sized(found.value, line.formula.unit) : "–"));
          })));
        }))]);
    }

    function drawLines(row, now) {
      Object.keys(data.line_groups).forEach(function (group) {
        var mine = row.lines.filter(function (line) { return line.formula.group === group; });
        outputs[group].closest(".scroll").hidden = !mine.length;
        outputs[group].replaceChildren.apply(outputs[group], mine.map(function (line) { return drawn(line, now); }));
      });
    }

    function drawn(line, now) {
      var found = line.found, formula = line.formula, is = found.value !== null, notes = [];
      if (found.leftOut.length) { notes.push("Without " + found.leftOut.map(titleOf).join(", ") + ": not known."); }
      if (found.noInterval.length) { notes.push("The interval leaves out " + found.noInterval.join(", ") + "."); }
      if (is && !(isFinite(found.low) && isFinite(found.high))) {
        notes.push("Unbounded: within its interval, what it is divided by reaches zero.");
      }
      if (formula.why) { notes.push(formula.why); }
      return make("tr", {}, [
        make("th", { scope: "row" }, formula.title),
        make("td", { "class": "num" + (is && found.value < 0 ? " bad" : ""), "data-own": formula.name,
          "data-value": is ? String(found.value) : undefined, "data-low": is ? String(found.low) : undefined,
          "data-high": is ? String(found.high) : undefined },
          is ? [make("span", { "class": "text" }, sized(found.value, formula.unit)),
            " " + unitText(formula.unit, now.currency), make("small", {}, interval(found, formula.unit))]
            : make("span", { "class": "roi-none" }, "not known: " + roi.said(found.reasons))),
        make("td", {}, is ? make("span", { "class": "roi-tag " + found.tag }, found.tag) : ""),
        make("td", {}, [make("code", {}, formula.name + " = " + formula.expression), make("code", { "class": "roi-filled" },
          "= " + line.filled)].concat(notes.map(function (note) { return make("small", {}, note); })))]);
    }

    function fillArms() {
      var arms = data.cases[caseBox.selectedIndex].arms;
      var chosen = arms.findIndex(function (a) { return a.is_recommended; });
      if (chosen < 0) { chosen = Math.max(0, arms.findIndex(function (a) { return a.kind === "lora"; })); }
      armBox.replaceChildren.apply(armBox, arms.map(function (a) {
        return make("option", { value: a.name }, a.name + (a.is_recommended ? " (recommended)" : ""));
      }));
      armBox.selectedIndex = chosen;
    }

    function setExamples(names) {
      examples = new Set(names);
      mark.hidden = !examples.size;
      data.inputs.forEach(function (entry) {
        fields[entry.name].box.classList.toggle("roi-is-example", examples.has(entry.name));
      });
    }

    function setAll(found, isExample) {
      currency.value = found.currency;
      gpu.value = found.gpu;
      data.inputs.forEach(function (entry) { fields[entry.name].input.value = found.texts[entry.name] || ""; });
      setExamples(isExample ? Object.keys(found.texts) : []);
      changed();
    }

    function read(text) {
      try { setAll(fromYaml(data, text), false); status.textContent = "Read."; }
      catch (error) { status.textContent = "Not read: " + error.message; }
    }

    function save() {
      var now = state();
      if (!now.currency) { status.textContent = "Type a currency first."; currency.focus(); return; }
      var url = URL.createObjectURL(new Blob([toYaml(data, now)], { type: "text/yaml" }));
      make("a", { href: url, download: "prices.yaml" }).click();
      setTimeout(function () { URL.revokeObjectURL(url); }, 1000);
      status.textContent = "Saved as prices.yaml. For the command line: rankscope roi STUDY --prices prices.yaml";
    }

    function button(text, action) {
      var node = make("button", { type: "button" }, text);
      node.addEventListener("click", action);
      return node;
    }

    function groupBox(group) {
      var mine = data.inputs.filter(function (entry) { return entry.group === group; });
      return make("fieldset", {}, [make("legend", {}, data.input_groups[group])]
        .concat(group === "price" ? [labelled("Currency", currency)] : [])
        .concat(group === "scale" ? [labelled("GPU", gpu)] : [])
        .concat(mine.map(function (entry) {
          var help = make("small", { id: box.id + "-help-" + entry.name }), unit = make("small");
          var problem = make("small", { id: box.id + "-problem-" + entry.name, "class": "roi-problem" });
          var input = make("input", { type: "text", inputmode: "decimal", autocomplete: "off", name: entry.name,
            "aria-describedby": help.id + " " + problem.id,
            placeholder: entry.assumed ? numberText(entry.assumed).replace(/[[\]]/g, "") : undefined });
          help.textContent = entry.help + (entry.assumed ? " Assumed unless typed: " + numberText(entry.assumed) + "." : "");
          fields[entry.name] = { input: input, problem: problem, unit: unit,
            box: labelled([entry.title, " ", unit], input, [help, problem]) };
          return fields[entry.name].box;
        })));
    }

    var form = make("form", { "class": "roi-form" }, Object.keys(data.input_groups).map(groupBox));
    var file = make("input", { type: "file", accept: ".yaml,.yml", "aria-label": "Load a prices file" });
    file.addEventListener("change", function () {
      if (file.files.length) { file.files[0].text().then(read); file.value = ""; }
    });
    var example = button("Fill in example values", function () {
      var texts = {};
      data.inputs.forEach(function (e) { if (!e.assumed && !/^(gpus?_|serving_penalty|replica_rate)/.test(e.name) ||
        e.name === "gpu_price") { texts[e.name] = String(e.example); } });
      setAll({ currency: "EUR", gpu: "A100 80GB", texts: texts }, true);
      status.textContent = "These are examples, not yours.";
    });
    var clear = button("Clear", function () { setAll({ currency: "", gpu: "", texts: {} }, false); status.textContent = ""; });
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("input", function (event) {
      if (examples.delete(event.target.name)) { setExamples(examples); }
      changed();
    });
    scenarios.addEventListener("change", changed);
    caseBox.addEventListener("change", function () { fillArms(); changed(); });
    armBox.addEventListener("change", changed);
    Object.keys(data.line_groups).forEach(function (group) {
      outputs[group] = make("tbody");
      var head = make("tr", {}, ["Line", "Value", "Tag", "Formula"].map(function (t) { return make("th", { scope: "col" }, t); }));
      lines.append(make("div", { "class": "scroll", tabindex: "0", role: "region", "aria-label": data.line_groups[group] },
        make("table", {}, [make("caption", {}, data.line_groups[group]), make("thead", {}, head), outputs[group]])));
    });
    // Read by a live page: the marks of examples are in no field.
    box.keep = function () { return Array.from(examples); };
    box.recall = setExamples;
    box.classList.add("roi");
    box.append(make("div", { "class": "roi-bar" }, [labelled("Study of", caseBox), labelled("Arm", armBox), scenarios]),
      mark, tiles, heard,
      make("div", { "class": "roi-bar" }, [example, clear, button("Save as YAML", save), labelled("Load a prices file", file)]),
      status, form, table,
      make("details", { "class": "fold" }, [make("summary", {}, "Every line, with its formula and tag"), lines]),
      make("details", { "class": "fold" }, [make("summary", {}, "The prices file as text"),
        labelled("Copy it, or type over it and read it", yaml), button("Read this text", function () { read(yaml.value); })]));
    fillArms();
    refresh();
  });
})(window.rankscope = window.rankscope || {});
