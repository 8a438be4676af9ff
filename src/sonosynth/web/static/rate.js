// Counts how long the image was looked at, and lets the keyboard rate it. Without this file the form works all the same.
"use strict";
const form = document.getElementById("rate");
let seen = 0;
let since = document.hidden ? null : performance.now();
document.addEventListener("visibilitychange", () => {
  if (document.hidden && since !== null) {
    seen += performance.now() - since;
    since = null;
  } else if (!document.hidden && since === null) {
    since = performance.now();
  }
});
form.addEventListener("submit", () => {
  const now = since === null ? 0 : performance.now() - since;
  form.elements.viewing_ms.value = Math.round(seen + now);
  form.querySelector("button").disabled = true;
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.key >= "1" && event.key <= "6") {
    const choice = form.querySelector(`input[name="rating"][value="${event.key}"]`);
    choice.checked = true;
    choice.focus();
  } else if (event.key === "Enter" && !["BUTTON", "A"].includes(event.target.tagName)) {
    event.preventDefault();
    form.requestSubmit();
  } else if (event.key === "p" || event.key === "P") {
    document.getElementById("pause").requestSubmit();
  }
});
