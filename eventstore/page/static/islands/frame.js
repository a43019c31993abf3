// What every page does beyond its HTML: the theme, `/` for Go to, copying, moments used before.

import { kept, keep } from "./keeping.js";
import { announceCommits } from "./new_commits.js";
import { drawStrip } from "./strip.js";

const root = document.documentElement;

for (const label of document.querySelectorAll(".theme")) {
  const choice = label.querySelector("select");
  choice.value = kept("theme") ?? "";
  choice.addEventListener("change", () => {
    keep("theme", choice.value || null);
    if (choice.value) root.dataset.theme = choice.value;
    else delete root.dataset.theme;
  });
  label.hidden = false;
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.composedPath()[0].closest?.("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  document.getElementById("go").focus();
});

for (const button of document.querySelectorAll("[data-copy]")) {
  // Only where the origin is trusted is there a clipboard.
  if (!navigator.clipboard) continue;
  const said = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.dataset.copy;
    const isAddress = button.dataset.copyIs === "address";
    await navigator.clipboard.writeText(isAddress ? new URL(text, location.href).href : text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = said; }, 1500);
  });
}

// One moment form is open at a time; Escape closes it and gives the focus back.
const forms = [...document.querySelectorAll("details.moment")];
for (const details of forms) {
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    for (const other of forms) if (other !== details) other.open = false;
    details.querySelector("input:not([type=hidden])").select();
  });
  details.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    details.open = false;
    details.querySelector("summary").focus();
  });
  const used = kept("moments") ?? [];
  const list = details.querySelector("datalist");
  for (const moment of used) list.append(new Option(moment, moment));
  details.querySelector("form").addEventListener("submit", () => {
    const moment = details.querySelector("input:not([type=hidden])").value.trim();
    if (moment) keep("moments", [moment, ...used.filter((one) => one !== moment)].slice(0, 20));
  });
}
document.addEventListener("pointerdown", (event) => {
  for (const details of forms) if (!details.contains(event.target)) details.open = false;
});

for (const place of document.querySelectorAll("[data-local]")) {
  const moment = new Date(place.dataset.local);
  if (moment.getTimezoneOffset()) {
    place.textContent = `, here ${moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" })}`;
  }
}

for (const strip of document.querySelectorAll("[data-strip]")) drawStrip(strip);
for (const place of document.querySelectorAll("[data-new-commits]")) announceCommits(place);
