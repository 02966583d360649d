// Copies a table's text or the citation. Without the clipboard's leave (a file opened from disk, say) the text is put
// into a field and selected instead. Opens notes and folded tables for print and for links to them.
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("can-copy");

  function textOf(button) {
    var at = button.getAttribute("data-copy");
    var texts = JSON.parse(document.getElementById("copy-texts").textContent);
    return at === "cite" ? document.getElementById("bibtex").textContent : texts[at][button.getAttribute("data-as")];
  }

  function say(group, words) {
    group.querySelector("[role=status]").textContent = words;
  }

  function byHand(group, text) {
    var field = group.querySelector("textarea") || group.appendChild(document.createElement("textarea"));
    field.readOnly = true;
    field.setAttribute("aria-label", "Text to copy");
    field.value = text;
    field.focus();
    field.select();
    say(group, "Selected: press Ctrl+C or ⌘C");
  }

  function copy(button) {
    var group = button.closest(".copy"), text = textOf(button), left = group.querySelector("textarea");
    if (!navigator.clipboard || !navigator.clipboard.writeText) { byHand(group, text); return; }
    navigator.clipboard.writeText(text).then(
      function () { if (left) { left.remove(); } say(group, "Copied"); },
      function () { byHand(group, text); }
    );
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-copy]"), link = event.target.closest("a[href^='#']");
    if (button) { copy(button); }
    if (link) { unfold(link.getAttribute("href")); }
  });

  // A link into a closed box opens it, and the boxes around it.
  function unfold(address) {
    var box = address.length > 1 && document.getElementById(decodeURIComponent(address.slice(1)));
    while (box) { if (box.tagName === "DETAILS") { box.open = true; } box = box.parentElement; }
  }

  window.addEventListener("hashchange", function () { unfold(location.hash); });
  document.addEventListener("DOMContentLoaded", function () { unfold(location.hash); });

  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = [].slice.call(document.querySelectorAll("main details:not([open]):not(.vega-embed details)"));
    opened.forEach(function (box) { box.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (box) { box.open = false; });
  });
})();
