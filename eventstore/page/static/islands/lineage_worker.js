// Lays a drawing out apart from the page, so that the page goes on answering.

import { laidOut } from "./lineage_layout.js";

addEventListener("message", ({ data: { number, nodes, edges } }) => {
  postMessage({ number, ...laidOut(nodes, edges) });
});
