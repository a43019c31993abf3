// Begins a verification, tells how far it is, and shows the page anew when it has ended.

const STEP_MS = 400;
const status = document.getElementById("verified");

async function follow(address) {
  for (;;) {
    const told = await (await fetch(address)).json();
    if (told.state !== "running") return location.reload();
    const of = told.of_all ? `: ${told.done.toLocaleString("en")} of ${told.of_all.toLocaleString("en")} records` : "";
    status.textContent = `Being verified${of}.`;
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}

for (const button of document.querySelectorAll("[data-verify]")) {
  const address = button.dataset.verify;
  button.hidden = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    const answer = await fetch(address, {
      method: "POST", body: "{}", headers: { "Content-Type": "application/json" },
    });
    if (answer.ok) return follow(address);
    status.textContent = (await answer.json()).detail;
    button.disabled = false;
  });
  if (button.dataset.isRunning) {
    button.disabled = true;
    follow(address);
  }
}
