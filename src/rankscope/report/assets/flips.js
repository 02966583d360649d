// The flips browser: items whose answer changed, filtered and paged. It counts and shows what ``report/flipped.py`` put
// into the page (its docstring says what stands where) and computes no statistics.
(function () {
  "use strict";
  var PAGE = 50, EXCERPT = 160, count = 0;

  function make(tag, words, name) {
    var node = document.createElement(tag);
    if (words !== undefined && words !== null) { node.textContent = words; }
    if (name) { node.className = name; }
    return node;
  }

  function number(value) { return value.toLocaleString("en-US"); }

  function plain(subject) { return subject.replace(/_/g, " "); }

  // A labelled field; ids are made here, so that two browsers can stand on one page.
  function field(form, label, input) {
    var box = form.appendChild(make("div", null, "field")), name = box.appendChild(make("label", label));
    input.id = name.htmlFor = "flips-field-" + (count += 1);
    return box.appendChild(input);
  }

  // ``options`` are [value, words]; what was chosen stays chosen where it is still there.
  function fill(select, options) {
    var before = select.value;
    select.textContent = "";
    options.forEach(function (option) {
      var node = select.appendChild(make("option", option[1]));
      node.value = option[0];
    });
    select.value = options.some(function (option) { return option[0] === before; }) ? before : options[0][0];
  }

  function named(names, used, write) {
    return names.map(function (name, place) { return [String(place), write ? write(name, place) : name]; })
      .filter(function (option) { return used[option[0]]; });
  }

  function said(item, answer) {
    var text = typeof answer === "number" ? item[4][answer] : answer;
    return text || "(nothing)";
  }

  function seedsOf(cell, bits) {
    return cell[4].filter(function (_, place) { return bits & (1 << place); });
  }

  // The last paragraph is the item's own; examples and headings stand before it. Its ends say most.
  function excerpt(text) {
    var own = text.trim().split("\n\n").pop();
    return own.length <= EXCERPT ? own : own.slice(0, EXCERPT - 60) + " … " + own.slice(-60);
  }

  window.rankscope.widget("flips", function (box, data) {
    var shown = [], page = 0, texts = [], inputs = {};
    var several = data.blocks.length > 1;
    var total = data.cells.reduce(function (sum, cell) { return sum + cell[6] + cell[7]; }, 0);
    var held = number(data.flips.length) + " changed answers" + (total > data.flips.length ? " on this page" : "");

    // What a flip can be searched by: its item's texts and all answers.
    function textOf(place) {
      if (texts[place] === undefined) {
        var flip = data.flips[place], item = data.items[flip[1]];
        texts[place] = [item[1], item[3] || "", item[4].join("\n"), said(item, item[5])]
          .concat(flip[4].map(function (answer) { return said(item, answer); }))
          .concat(item[6].map(function (answer) { return answer === null ? "" : said(item, answer); }))
          .join("\n").toLowerCase();
      }
      return texts[place];
    }

    function fits(place, wanted) {
      var flip = data.flips[place], cell = data.cells[flip[0]], item = data.items[flip[1]];
      return (wanted.block === "" || cell[0] === +wanted.block) && (wanted.arm === "" || cell[1] === +wanted.arm)
        && (wanted.task === "" || cell[2] === +wanted.task) && (wanted.subject === "" || item[2] === +wanted.subject)
        && (wanted.way === "" || flip[2] === +wanted.way)
        && (wanted.seeds === "" || flip[3] === (1 << cell[4].length) - 1)
        && (wanted.text === "" || textOf(place).indexOf(wanted.text) >= 0);
    }

    function wanted() {
      var found = {};
      Object.keys(inputs).forEach(function (name) { found[name] = inputs[name].value; });
      found.text = found.text.trim().toLowerCase();
      return found;
    }

    // Which arm is recommended is another matter for each block.
    function arms() {
      var block = inputs.block.value;
      var best = block === "" ? data.recommended : [data.recommended[+block]];
      fill(inputs.arm, [["", "All arms"]].concat(named(data.arms, used.arm, function (arm, place) {
        return arm + (best.indexOf(place) >= 0 ? " (recommended)" : "");
      })));
    }

    // Subjects are those of the chosen task.
    function subjects() {
      var used = {}, task = inputs.task.value;
      data.items.forEach(function (item) {
        if ((task === "" || item[0] === +task) && data.subjects[item[2]]) { used[item[2]] = true; }
      });
      var options = named(data.subjects, used, plain);
      fill(inputs.subject, [["", "All subjects"]].concat(options));
      inputs.subject.disabled = !options.length;
    }

    function answers(item, cell, flip) {
      var table = make("table"), body = table.appendChild(make("tbody"));
      var rows = [["Right answer", said(item, item[5]), "even"]];
      var before = item[6][data.blocks[cell[0]][2]];
      rows.push(["Base", before === null || before === undefined ? "–" : said(item, before), flip[2] ? "good" : "bad"]);
      cell[4].forEach(function (seed, place) {
        var moved = Boolean(flip[3] & (1 << place));
        rows.push([data.arms[cell[1]] + ", seed " + seed, said(item, flip[4][place]), moved === Boolean(flip[2]) ? "bad" : "good"]);
      });
      rows.forEach(function (row, place) {
        var line = body.appendChild(make("tr")), head = line.appendChild(make("th", row[0]));
        head.scope = "row";
        line.appendChild(make("td", place ? (row[2] === "good" ? "right" : "wrong") : "", row[2])).classList.add("judged");
        line.appendChild(make("td", row[1], "answer"));
      });
      return table;
    }

    function entry(place) {
      var flip = data.flips[place], cell = data.cells[flip[0]], item = data.items[flip[1]];
      var node = make("details", null, "flip"), head = node.appendChild(make("summary"));
      var moved = seedsOf(cell, flip[3]);
      head.appendChild(make("span", flip[2] ? "right → wrong" : "wrong → right", "way " + (flip[2] ? "bad" : "good")));
      head.appendChild(make("span", moved.length + " of " + cell[4].length + (cell[4].length === 1 ? " seed" : " seeds"), "share"));
      head.appendChild(make("span", item[3] ? excerpt(item[3]) : "Item " + item[1], "asked"));
      var facts = [data.arms[cell[1]]].concat(several ? [data.blocks[cell[0]][0]] : [])
        .concat([data.tasks[cell[2]] + " (" + cell[3] + ")"])
        .concat(data.subjects[item[2]] ? [plain(data.subjects[item[2]])] : []);
      head.appendChild(make("small", facts.join(" · ")));
      var inner = node.appendChild(make("div", null, "inner"));
      inner.appendChild(make("p", "Item " + item[1], "id"));
      if (item[3] === null) {
        inner.appendChild(make("p", "The question is not shown: " + data.silent[cell[2]] + ".", "none"));
      } else if (item[3]) {
        inner.appendChild(make("pre", item[3]));
      }
      // Letters are in the question, with what they stand for.
      if (item[4].some(function (choice, at) { return choice !== String.fromCharCode(65 + at); })) {
        var list = inner.appendChild(make("ol", null, "choices"));
        item[4].forEach(function (choice, at) {
          var line = list.appendChild(make("li", choice));
          if (at === item[5]) { line.appendChild(make("strong", " (right)")); }
        });
      }
      inner.appendChild(answers(item, cell, flip));
      return node;
    }

    function draw() {
      var pages = Math.max(1, Math.ceil(shown.length / PAGE)), from = page * PAGE;
      list.textContent = "";
      shown.slice(from, from + PAGE).forEach(function (place) {
        list.appendChild(make("li")).appendChild(entry(place));
      });
      place.textContent = shown.length
        ? "Page " + number(page + 1) + " of " + number(pages) + ": " + number(from + 1) + " to " + number(Math.min(from + PAGE, shown.length))
        : "Nothing here fits these filters.";
      // A button that holds the focus stays enabled in all but name: a disabled one would lose it.
      previous.setAttribute("aria-disabled", String(page === 0));
      next.setAttribute("aria-disabled", String(page + 1 >= pages));
    }

    function filter() {
      var asked = wanted(), every = 0, lost = 0;
      shown = [];
      data.flips.forEach(function (flip, place) {
        if (!fits(place, asked)) { return; }
        shown.push(place);
        lost += flip[2];
        every += flip[3] === (1 << data.cells[flip[0]][4].length) - 1 ? 1 : 0;
      });
      page = 0;
      status.textContent = number(shown.length) + " of " + held + ": "
        + number(lost) + " right → wrong, " + number(shown.length - lost) + " wrong → right; " + number(every)
        + " under every seed.";
      draw();
    }

    function turn(by) {
      var last = Math.max(0, Math.ceil(shown.length / PAGE) - 1), to = Math.min(last, Math.max(0, page + by));
      if (to !== page) { page = to; draw(); }
    }

    function button(parent, words, does) {
      var node = parent.appendChild(make("button", words));
      node.type = "button";
      node.addEventListener("click", does);
      return node;
    }

    var used = { block: {}, arm: {}, task: {} };
    data.flips.forEach(function (flip) {
      var cell = data.cells[flip[0]];
      used.block[cell[0]] = used.arm[cell[1]] = used.task[cell[2]] = true;
    });
    var form = box.appendChild(make("div", null, "filters"));
    [["block", "Trained on"], ["arm", "Arm"], ["task", "Task"], ["subject", "Subject"], ["way", "Direction"], ["seeds", "Seeds"]]
      .forEach(function (named) { inputs[named[0]] = field(form, named[1], make("select")); });
    inputs.text = field(form, "Text", make("input"));
    inputs.text.type = "search";
    inputs.text.placeholder = "in questions and answers";
    fill(inputs.block, [["", "All"]].concat(named(data.blocks, used.block, function (block) { return block[1]; })));
    inputs.block.parentNode.hidden = !several;
    fill(inputs.task, [["", "All tasks"]].concat(named(data.tasks, used.task)));
    fill(inputs.way, [["", "Both"], ["1", "Right → wrong"], ["0", "Wrong → right"]]);
    fill(inputs.seeds, [["", "Under any seed"], ["all", "Under every seed"]]);
    subjects();
    Object.keys(inputs).forEach(function (name) {
      inputs[name].addEventListener(name === "text" ? "input" : "change", function () {
        if (name === "task") { subjects(); }
        if (name === "block") { arms(); }
        filter();
      });
    });
    button(form, "Clear filters", function () {
      Object.keys(inputs).forEach(function (name) { inputs[name].value = ""; });
      arms();
      subjects();
      filter();
    });
    var status = box.appendChild(make("p", null, "count"));
    status.setAttribute("role", "status");
    status.setAttribute("aria-live", "polite");
    var list = box.appendChild(make("ol", null, "found"));
    var turner = box.appendChild(make("div", null, "turner"));
    var previous = button(turner, "Previous", function () { turn(-1); });
    var next = button(turner, "Next", function () { turn(1); });
    var place = turner.appendChild(make("span"));
    place.setAttribute("role", "status");

    if (used.block[data.start.block]) { inputs.block.value = String(data.start.block); }
    arms();
    if (used.arm[data.start.arm]) { inputs.arm.value = String(data.start.arm); }
    inputs.way.value = "1";
    filter();
  });
})();
