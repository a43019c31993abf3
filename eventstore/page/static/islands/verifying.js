// Begins a verification, tells how far it is, and shows the page anew when it has ended.

import { asked } from "./asking.js";

const STEP_MS = 400;
const status = document.getElementById("verified");

async function follow(told, address) {
  while (told.state === "running") {
    const of = told.of_all ? `: ${told.done.toLocaleString("en")} of ${told.of_all.toLocaleString("en")} records` : "";
    status.textContent = `Being verified${of}.`;
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
    told = await asked(address);
  }
  location.reload();
}

for (const button of document.querySelectorAll("[data-verify]")) {
  const address = button.dataset.verify;
  const watched = async (first) => {
    button.disabled = true;
    try {
      await follow(await first, address);
    } catch (error) {
      status.textContent = `How it stands is not known: ${error.message}`;
      button.disabled = false;
    }
  };
  button.hidden = false;
  button.addEventListener("click", () => watched(asked(address, { body: {} })));
  if (button.dataset.isRunning) watched(asked(address));
}
