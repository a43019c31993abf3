// The plot of a comparison.

import { scatter } from "./plot.js";

for (const place of document.querySelectorAll(".plot")) {
  scatter(place, JSON.parse(place.querySelector("script").textContent));
}
