// The filter of a list: a plain input until it has the focus, then an editor, which completes names
// as of the moment and says what is wrong while it is written.

import { shownText } from "./shown_text.js";

const API = "api/v1/filters";
const PAUSE_MS = 200;

for (const form of document.querySelectorAll("form[data-filter-of]")) {
  form.querySelector(".filter").addEventListener("focus", () => become(form), { once: true });
}

async function become(form) {
  const input = form.querySelector(".filter");
  const kind = form.dataset.filterOf;
  const action = new URL(form.action);
  const home = `${action.pathname.slice(0, action.pathname.lastIndexOf("/"))}/${API}`;
  const { characters, makeEditor, units } = await import("./editor.js");

  const host = document.createElement("div");
  host.className = "filter editor";
  const error = document.createElement("p");
  error.className = "filter-error";
  error.setAttribute("role", "status");

  async function ask(path, query, signal) {
    const moments = new URLSearchParams(location.search);
    const asked = new URLSearchParams({ kind, ...query });
    if (moments.has("at")) asked.set("at", moments.get("at"));
    const answer = await fetch(`${home}/${path}?${asked}`, { signal });
    return answer.ok ? answer.json() : null;
  }

  async function complete(context) {
    const text = context.state.doc.toString();
    const found = await ask("complete", { filter: text, cursor_at: characters(text, context.pos) });
    if (context.aborted || !found?.completions.length) return null;
    const from = units(text, found.start);
    // After a whole word nothing is offered unasked.
    if (!context.explicit && from === context.pos && text && !/[\s(.]$/.test(text.slice(0, from))) return null;
    return { from, filter: false, options: found.completions.map(option) };
  }

  let asking = new AbortController();
  let known = { text: input.value, isValid: true };
  async function look(isDone = false) {
    asking.abort();
    asking = new AbortController();
    const text = editor.text;
    const found = await ask("check", { filter: text }, asking.signal).catch(() => null);
    if (found === null || text !== editor.text) return true;
    known = { text, isValid: found.is_valid };
    if (found.is_valid) {
      error.textContent = "";
      editor.mark(0, null);
      return true;
    }
    const place = found.position === null ? null : units(text, found.position);
    const at = place === null ? "" : ` at column ${found.position + 1}`;
    // A name that is half written is not wrong yet.
    const isOpen = !isDone && (found.is_unfinished || /^[\w.`]+$/.test(text.slice(place ?? text.length)));
    // Where it is, the column says alone.
    const said = at ? found.error.replace(/ at character \d+$/, "") : found.error;
    const says = `${isOpen ? "~ Unfinished" : "× Wrong"}${at}: ${said}`;
    error.textContent = shownText(says);
    error.className = isOpen ? "filter-error" : "filter-error wrong";
    editor.mark(place, isOpen ? null : says);
    return false;
  }

  let waiting;
  const editor = makeEditor(host, {
    text: input.value,
    label: "Filter",
    language: "filter",
    complete,
    onChange(text) {
      input.value = text;
      clearTimeout(waiting);
      waiting = setTimeout(() => look(), PAUSE_MS);
    },
    onEnter: () => form.requestSubmit(),
  });
  // Columns that nobody has chosen stay out of the address.
  form.addEventListener("formdata", ({ formData }) => {
    const boxes = [...form.querySelectorAll("[name=columns]")];
    const isAsGiven = boxes.every((box) => box.checked === box.defaultChecked);
    if (isAsGiven && !new URLSearchParams(location.search).has("columns")) formData.delete("columns");
  });
  form.addEventListener("submit", (event) => {
    if (known.text === input.value && known.isValid) return;
    event.preventDefault();
    clearTimeout(waiting);
    // The table keeps the last valid answer.
    look(true).then((isValid) => isValid && form.submit());
  });

  const hadFocus = document.activeElement === input;
  input.type = "hidden";
  input.before(host);
  form.append(error);
  const label = form.querySelector("label[for]");
  label?.addEventListener("click", () => editor.focus());
  document.getElementById("filter-error")?.remove();
  if (hadFocus) editor.focus();
  if (input.value) look();
  else if (hadFocus) editor.complete();
}

function option({ text, kind, type, nodes }) {
  const detail = [type ?? kind, nodes === null || nodes === undefined ? null : `${nodes.toLocaleString("en")} nodes`];
  return { label: text, type: kind, detail: detail.filter(Boolean).join(" · ") };
}
