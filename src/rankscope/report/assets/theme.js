// Light, dark or as the system has it. Runs in the head, so that a page never flashes in the wrong colours; the choice is
// kept by the browser where it allows that (a file opened from disk may not).
(function () {
  "use strict";
  var root = document.documentElement, choices = ["auto", "light", "dark"], key = "rankscope-theme";

  function remembered() {
    try { return window.localStorage.getItem(key); } catch (refused) { return null; }
  }

  function apply(choice) {
    if (choice === "light" || choice === "dark") { root.setAttribute("data-theme", choice); } else { root.removeAttribute("data-theme"); }
    document.querySelectorAll("[data-theme-button]").forEach(function (button) {
      button.querySelector("span").textContent = choice;
      button.setAttribute("data-choice", choice);
    });
  }

  function current() {
    return root.getAttribute("data-theme") || "auto";
  }

  apply(remembered());
  root.classList.add("can-theme");
  document.addEventListener("DOMContentLoaded", function () { apply(current()); });
  document.addEventListener("click", function (event) {
    if (!event.target.closest("[data-theme-button]")) { return; }
    var next = choices[(choices.indexOf(current()) + 1) % choices.length];
    apply(next);
    try { window.localStorage.setItem(key, next); } catch (refused) { return; }
  });
})();
