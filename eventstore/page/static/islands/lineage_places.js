// Has a layout made in the worker, and makes a plain one where that takes too long.

import { inColumns } from "./lineage_columns.js";
import { moduleWorker } from "./trusted.js";

const DEADLINE = 1500;

let worker = null;
let asked = 0;

export function placesOf(nodes, edges) {
  worker ??= moduleWorker(new URL("./lineage_worker.js", import.meta.url).href);
  asked += 1;
  const number = asked;
  const mine = worker;
  return new Promise((resolve) => {
    const settle = (laid, isPlain) => {
      clearTimeout(timer);
      mine.removeEventListener("message", answered);
      mine.removeEventListener("error", failed);
      if (isPlain) {
        mine.terminate();
        if (worker === mine) worker = null;
      }
      resolve({ ...laid, isPlain });
    };
    const answered = ({ data }) => { if (data.number === number) settle(data, false); };
    const failed = () => settle(inColumns(nodes, edges), true);
    const timer = setTimeout(failed, DEADLINE);
    mine.addEventListener("message", answered);
    mine.addEventListener("error", failed);
    mine.postMessage({ number, nodes, edges });
  });
}
