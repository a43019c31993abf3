// Runs the query of the SQL page, and shows its rows and a chart of them.

import { makeEditor, units } from "./editor.js";
import { shownText } from "./shown_text.js";

const NUMBERS = /^(u?int|float|double|decimal|half)/;
const CHART_PARAMETERS = ["chart", "x", "y"];

const place = document.querySelector(".query");
const form = place.querySelector("form");
const field = form.querySelector("textarea");
const told = place.querySelector(".told");
const result = place.querySelector(".result");
const cancel = form.querySelector("[data-cancel]");
const downloads = form.querySelector(".downloads");
const drawing = place.querySelector(".drawing");
const plotPlace = drawing.querySelector(".plot");
const choices = {
  chart: drawing.querySelector("[data-chart-form]"),
  x: drawing.querySelector("[data-chart-x]"),
  y: drawing.querySelector("[data-chart-y]"),
};

const schema = {};
for (const view of place.querySelectorAll("[data-view]")) {
  schema[view.dataset.view] = [...view.querySelectorAll("li code")].map((it) => it.textContent);
}

const host = document.createElement("div");
host.className = "editor";
field.hidden = true;
field.before(host);
const editor = makeEditor(host, {
  text: field.value,
  label: "Query",
  language: "sql",
  schema,
  onChange: () => editor.mark(0, null),
  onEnter: () => run(),
});

let running = null;
let shown = null;
let plot = null;

function moments() {
  const here = new URLSearchParams(location.search);
  return [...here].filter(([name]) => name === "at");
}

async function post(query, signal) {
  const answer = await fetch(`${place.dataset.api}?${new URLSearchParams([...moments(), ["exact", "1"]])}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ q: query }),
    signal,
  });
  return [answer.ok, await answer.json()];
}

async function run() {
  running?.abort();
  const mine = new AbortController();
  running = mine;
  const query = editor.text;
  const began = performance.now();
  say("Running …");
  cancel.hidden = false;
  editor.mark(0, null);
  try {
    const [isOk, answer] = await post(query, mine.signal);
    if (running !== mine) return;
    if (isOk) {
      remember(query);
      show(answer, query, performance.now() - began);
    } else {
      say(answer.detail, true);
      if (answer.position !== undefined && answer.position !== null) {
        const at = units(query, answer.position);
        if (query === editor.text) editor.mark(at, answer.detail);
        editor.view.dispatch({ selection: { anchor: Math.min(at, editor.text.length) } });
      }
    }
  } catch (error) {
    if (running === mine) say(error.name === "AbortError" ? "Cancelled" : `The server can't be reached: ${error.message}`, true);
  } finally {
    if (running === mine) {
      running = null;
      cancel.hidden = true;
    }
  }
}

function say(text, isWrong = false) {
  told.textContent = text.split("\n").map(shownText).join("\n");
  told.classList.toggle("wrong", isWrong);
}

function show(answer, query, milliseconds) {
  shown = answer;
  const count = `${answer.rows.length.toLocaleString("en")} ${answer.rows.length === 1 ? "row" : "rows"}`;
  say(`${answer.has_more ? `The first ${count}; there are more: download them all` : count} · ${Math.round(milliseconds)} ms · position ${Number(answer.at.position).toLocaleString("en")}`);
  for (const link of downloads.querySelectorAll("a")) {
    link.href = `${place.dataset.api}?${new URLSearchParams([["q", query], ["format", link.dataset.format], ...moments()])}`;
  }
  downloads.hidden = false;
  result.replaceChildren(tableOf(answer));
  result.hidden = false;
  offerCharts();
}

function tableOf({ columns, rows }) {
  const table = document.createElement("table");
  table.className = "table";
  const head = table.createTHead().insertRow();
  const areNumbers = columns.map(({ type }) => NUMBERS.test(type));
  for (const [number, column] of columns.entries()) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = `${shownText(column.name)} `;
    const type = document.createElement("span");
    type.className = "quiet";
    type.textContent = column.type;
    cell.append(type);
    if (areNumbers[number]) cell.className = "number";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [number, value] of row.entries()) {
      const cell = line.insertCell();
      cell.textContent = textOf(value);
      if (areNumbers[number]) cell.className = "number mono";
      else if (value === null) cell.className = "value-none";
    }
  }
  return table;
}

function textOf(value) {
  if (value === null) return "null";
  return shownText(typeof value === "object" ? JSON.stringify(value) : String(value));
}

// What is in the address a colleague sees, too; the query is run when they say so.
function remember(query, isNew = true) {
  const address = new URL(location.href);
  address.searchParams.set("q", query);
  for (const name of CHART_PARAMETERS) {
    if (choices[name].value && choices.chart.value) address.searchParams.set(name, choices[name].value);
    else address.searchParams.delete(name);
  }
  if (address.href === location.href) return;
  if (isNew && new URL(location.href).searchParams.get("q") !== query) window.history.pushState(null, "", address);
  else window.history.replaceState(null, "", address);
}

function offerCharts() {
  const wanted = { ...place.dataset };
  const names = shown.columns.map(({ name }) => name);
  const numbers = shown.columns.filter(({ type }) => NUMBERS.test(type)).map(({ name }) => name);
  drawing.hidden = numbers.length === 0 || shown.rows.length === 0;
  if (drawing.hidden) return;
  for (const [name, offered] of [["x", names], ["y", numbers]]) {
    const before = choices[name].value || wanted[name];
    choices[name].replaceChildren(...offered.map((one) => new Option(shownText(one), one)));
    choices[name].value = offered.includes(before) ? before : name === "x" ? names[0] : numbers.at(-1);
  }
  if (wanted.chart && !choices.chart.value) choices.chart.value = wanted.chart;
  draw();
}

async function draw() {
  const [chart, x, y] = CHART_PARAMETERS.map((name) => choices[name].value);
  plot?.destroy();
  plot = null;
  plotPlace.hidden = !chart;
  remember(new URL(location.href).searchParams.get("q") ?? editor.text, false);
  if (!chart) return;
  const { chartOf } = await import("./plot.js");
  const [across, up] = [x, y].map((name) => shown.columns.findIndex((column) => column.name === name));
  plotPlace.setAttribute("aria-label", `${y} by ${x}, of the rows below`);
  plot = chartOf(plotPlace, {
    chart,
    xName: x,
    yName: y,
    xType: shown.columns[across].type,
    pairs: shown.rows.map((row) => [row[across], row[up]]),
  });
}

for (const choice of Object.values(choices)) choice.addEventListener("change", draw);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
cancel.addEventListener("click", () => running?.abort());
window.addEventListener("popstate", () => {
  editor.text = new URL(location.href).searchParams.get("q") ?? field.value;
});

// How many rows each view has, once the page is there; those of types are counted already.
const uncounted = [...place.querySelectorAll("[data-view]:not([data-of-type])")];
post(uncounted.map(({ dataset: { view } }) => `SELECT '${view}' AS view, count(*) AS rows FROM ${view}`).join(" UNION ALL "))
  .then(([isOk, answer]) => {
    if (!isOk) return;
    for (const [view, rows] of answer.rows) {
      place.querySelector(`[data-view="${view}"] .count`).textContent = Number(rows).toLocaleString("en");
    }
  })
  .catch(() => {});
