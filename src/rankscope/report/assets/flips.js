// The flips browser: items whose answer changed, filtered and paged. It counts and shows what ``report/flipped.py`` put
// into the page (its docstring says what stands where) and computes no statistics.
(function () {
  "use strict";
  var PAGE = 50, EXCERPT = 160, DASH = "–";

  function make(tag, words, name) {
    var node = document.createElement(tag);
    if (words !== undefined && words !== null) { node.textContent = words; }
    if (name) { node.className = name; }
    return node;
  }

  function number(value) { return value.toLocaleString("en-US"); }

  function plain(subject) { return subject.replace(/_/g, " "); }

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

  // Options go by name: a live page makes this anew, and places in a list shift when an arm is added.
  function named(names, used, write) {
    var options = [];
    names.forEach(function (name, place) {
      if (used[place]) { options.push([name, write ? write(name, place) : name]); }
    });
    return options;
  }

  function said(item, answer) {
    var text = typeof answer === "number" ? item[4][answer] : answer;
    return text || "(nothing)";
  }

  // Where the rows weren't read, nobody knows what is right.
  function right(item) { return item[3] === null ? DASH : said(item, item[5]); }

  function isUnderAll(flip) { return flip[3].indexOf("0") < 0; }

  // The last paragraph is the item's own; examples and headings stand before it. Its ends say most.
  function excerpt(text) {
    var own = text.trim().split("\n\n").pop();
    return own.length <= EXCERPT ? own : own.slice(0, EXCERPT - 60) + " … " + own.slice(-60);
  }

  window.rankscope.widget("flips", function (box, data) {
    var shown = [], page = 0, texts = [], inputs = {};
    var names = { block: data.blocks.map(function (block) { return block[0]; }), arm: data.arms, task: data.tasks,
      subject: data.subjects };
    var several = data.blocks.length > 1;
    var total = data.cells.reduce(function (sum, cell) { return sum + cell[6] + cell[7]; }, 0);
    var held = number(data.flips.length) + " changed answers" + (total > data.flips.length ? " on this page" : "");

    // Ids come from the box's own, so that a live page finds each field of this part again when it is made anew.
    function field(form, name, label, input) {
      var holder = form.appendChild(make("div", null, "field")), title = holder.appendChild(make("label", label));
      input.id = title.htmlFor = box.id + "-" + name;
      inputs[name] = holder.appendChild(input);
    }

    // What a flip can be searched by: its item's texts and all answers.
    function textOf(place) {
      if (texts[place] === undefined) {
        var flip = data.flips[place], item = data.items[flip[1]];
        texts[place] = [item[1], item[3] || "", item[4].join("\n"), right(item)]
          .concat(flip[4].map(function (answer) { return said(item, answer); }))
          .concat(item[6].map(function (answer) { return answer === null ? "" : said(item, answer); }))
          .join("\n").toLowerCase();
      }
      return texts[place];
    }

    function fits(place, wanted) {
      var flip = data.flips[place], cell = data.cells[flip[0]], item = data.items[flip[1]];
      return (wanted.block === "" || cell[0] === wanted.block) && (wanted.arm === "" || cell[1] === wanted.arm)
        && (wanted.task === "" || cell[2] === wanted.task) && (wanted.subject === "" || item[2] === wanted.subject)
        && (wanted.way === "" || flip[2] === +wanted.way)
        && (wanted.seeds === "" || isUnderAll(flip))
        && (wanted.text === "" || textOf(place).indexOf(wanted.text) >= 0);
    }

    // The filters as they stand, names as places in their list.
    function wanted() {
      var found = {};
      Object.keys(inputs).forEach(function (name) {
        var value = inputs[name].value;
        found[name] = value !== "" && names[name] ? names[name].indexOf(value) : value;
      });
      found.text = found.text.trim().toLowerCase();
      return found;
    }

    // Which arm is recommended is another matter for each block.
    function arms() {
      var block = inputs.block.value;
      var best = block === "" ? data.recommended : [data.recommended[names.block.indexOf(block)]];
      fill(inputs.arm, [["", "All arms"]].concat(named(data.arms, used.arm, function (arm, place) {
        return arm + (best.indexOf(place) >= 0 ? " (recommended)" : "");
      })));
    }

    // Subjects are those of the chosen task.
    function subjects() {
      var used = {}, task = inputs.task.value;
      data.items.forEach(function (item) {
        if ((task === "" || data.tasks[item[0]] === task) && data.subjects[item[2]]) { used[item[2]] = true; }
      });
      var options = named(data.subjects, used, plain);
      fill(inputs.subject, [["", "All subjects"]].concat(options));
      inputs.subject.disabled = !options.length;
    }

    // An arm that was there already has no seed.
    function isGiven(cell) { return data.given.indexOf(cell[1]) >= 0; }

    function answers(item, cell, flip) {
      var table = make("table"), body = table.appendChild(make("tbody"));
      var rows = [["Right answer", right(item), "even"]];
      var before = item[6][data.blocks[cell[0]][2]];
      var own = before === null || before === undefined ? DASH : said(item, before);
      rows.push(["Base", own, flip[2] ? "good" : "bad"]);
      cell[4].forEach(function (seed, place) {
        var moved = flip[3][place] === "1", name = data.arms[cell[1]] + (isGiven(cell) ? "" : ", seed " + seed);
        rows.push([name, said(item, flip[4][place]), moved === Boolean(flip[2]) ? "bad" : "good"]);
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
      var under = flip[3].split("1").length - 1, seeds = cell[4].length;
      var share = isGiven(cell) ? "" : under + " of " + seeds + (seeds === 1 ? " seed" : " seeds");
      head.appendChild(make("span", flip[2] ? "right → wrong" : "wrong → right", "way " + (flip[2] ? "bad" : "good")));
      head.appendChild(make("span", share, "share"));
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
        every += isUnderAll(flip) ? 1 : 0;
      });
      page = 0;
      status.textContent = number(shown.length) + " of " + held + ": "
        + number(lost) + " right → wrong, " + number(shown.length - lost) + " wrong → right; " + number(every)
        + " under every seed.";
      draw();
    }

    function open(wanted) {
      var last = Math.max(0, Math.ceil(shown.length / PAGE) - 1), to = Math.min(last, Math.max(0, wanted));
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
      .forEach(function (one) { field(form, one[0], one[1], make("select")); });
    field(form, "text", "Text", make("input"));
    inputs.text.type = "search";
    inputs.text.placeholder = "in questions and answers";
    var blocks = named(names.block, used.block, function (_, at) { return data.blocks[at][1]; });
    fill(inputs.block, [["", "All"]].concat(blocks));
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
    var previous = button(turner, "Previous", function () { open(page - 1); });
    var next = button(turner, "Next", function () { open(page + 1); });
    var place = turner.appendChild(make("span"));
    place.setAttribute("role", "status");

    if (used.block[data.start.block]) { inputs.block.value = names.block[data.start.block]; }
    arms();
    if (used.arm[data.start.arm]) { inputs.arm.value = data.arms[data.start.arm]; }
    inputs.way.value = "1";
    filter();
    // Read by a live page: the page turned to is in no field.
    box.keep = function () { return page; };
    box.recall = open;
  });
})();
