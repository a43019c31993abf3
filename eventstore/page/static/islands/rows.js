// Tables of nodes from the keyboard: j and k move, Space ticks, Enter opens, x compares.

for (const table of document.querySelectorAll("table[data-rows]")) {
  const rows = [...table.tBodies[0].rows];
  const form = table.closest("form");
  const button = form?.querySelector("[data-compare]");
  const boxes = rows.map((row) => row.querySelector("input[type=checkbox]"));

  const tell = () => {
    const count = boxes.filter((box) => box?.checked).length;
    for (const [place, row] of rows.entries()) row.classList.toggle("ticked", Boolean(boxes[place]?.checked));
    if (button) {
      button.disabled = count < 2 || count > 20;
      button.textContent = count ? `Compare ${count}` : "Compare";
    }
  };
  const move = (place) => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, place))];
    row.tabIndex = -1;
    row.focus();
  };

  table.addEventListener("change", tell);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.composedPath()[0].closest?.("input:not([type=checkbox]), textarea, select, summary")) return;
    const place = rows.indexOf(document.activeElement?.closest?.("tr"));
    if (event.key === "j") move(place + 1);
    else if (event.key === "k") move(place < 0 ? 0 : place - 1);
    else if (event.key === "x" && button && !button.disabled) form.requestSubmit(button);
    else if (place >= 0 && document.activeElement === rows[place] && event.key === " " && boxes[place]) {
      boxes[place].checked = !boxes[place].checked;
      tell();
    } else if (place >= 0 && document.activeElement === rows[place] && event.key === "Enter") {
      rows[place].querySelector("a").click();
    } else return;
    event.preventDefault();
  });
  form?.addEventListener("submit", (event) => {
    // One parameter with commas, as the address of a comparison has it.
    event.preventDefault();
    const query = new URLSearchParams();
    const ids = boxes.filter((box) => box.checked);
    for (const input of form.querySelectorAll("input[type=hidden]")) query.set(input.name, input.value);
    const said = [`${ids[0].name}=${ids.map((box) => box.value).join(",")}`];
    if (query.size) said.push(query.toString());
    location.assign(`${form.getAttribute("action")}?${said.join("&")}`);
  });
  tell();
}
