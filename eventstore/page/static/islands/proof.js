// The form of a proof, and what the checker says of it. The checker itself is in ../proof/.

import { html, render, useEffect, useRef, useState } from "../parts/preact.js";
import { STEPS, check, hindrance, kindOf } from "../proof/check.js";
import { timeText } from "../proof/checkpoint.js";
import { keep, kept } from "./keeping.js";
import { shownText } from "./shown_text.js";
import { asked } from "./asking.js";

const MARKS = { holds: "✓", refused: "×", unchecked: "?", "not reached": "–", waiting: "·" };
const SPOKEN = {
  holds: "holds",
  refused: "does not hold",
  unchecked: "can't be checked",
  "not reached": "not looked at",
  waiting: "not looked at yet",
};
const VERDICTS = { proved: "Proved", refused: "This does not hold", unchecked: "This can't be checked" };
const FILE_BYTES_MAX = 16 * 1024 * 1024;

// The server's proof of a record against a checkpoint.
const askedProof = (address, checkpoint) => asked(address, { body: { checkpoint } });

function Checker({ place }) {
  const { of, kept: keptAt, position, store, leaf } = place.dataset;
  const [given, setGiven] = useState({ key: kept("key") ?? "", checkpoint: "", proof: "" });
  const [choices, setChoices] = useState([]);
  const [result, setResult] = useState(null);
  const [isOver, setOver] = useState(false);
  const newest = useRef(0);
  const give = (more) => setGiven((before) => ({ ...before, ...more }));

  useEffect(() => {
    if (!keptAt) return;
    asked(keptAt)
      .catch(() => ({ checkpoints: [] }))
      .then(({ checkpoints }) => {
        const covering = checkpoints.filter(({ size }) => size >= Number(position));
        setChoices(covering);
        if (covering.length) {
          setGiven((before) => ({ ...before, checkpoint: before.checkpoint || covering[0].text }));
        }
      });
  }, []);

  useEffect(() => {
    keep("key", given.key.trim() ? given.key : null);
    const text = of ? given.checkpoint : given.proof;
    const turn = ++newest.current;
    const told = (found) => turn === newest.current && setResult(found);
    if (!text.trim()) {
      told(null);
      return;
    }
    const wait = setTimeout(() => answered(given).then(told), 150);
    return () => clearTimeout(wait);
  }, [given]);

  async function answered({ key, checkpoint, proof }) {
    const cannot = await hindrance();
    if (cannot) return { state: "unchecked", says: cannot, steps: [] };
    let text = proof;
    let erasures = [];
    if (of) {
      if (kindOf(checkpoint) !== "checkpoint") {
        return { state: "unchecked", says: "this is no signed checkpoint of a store", steps: [] };
      }
      try {
        ({ proof: text, erasures } = await askedProof(of, ending(checkpoint)));
      } catch (error) {
        return { state: "unchecked", says: `the server gives no proof: ${error.message}`, steps: [] };
      }
    }
    const expected = of ? { position, storeId: store, leaf, checkpoint: ending(checkpoint) } : {};
    return { ...(await check(of ? text : ending(text), key, expected)), text, erasures };
  }

  async function take(files) {
    const taken = {};
    for (const file of files) {
      if (file.size > FILE_BYTES_MAX) continue;
      const text = await file.text();
      const kind = kindOf(text);
      if (kind) taken[kind] = text;
    }
    if (taken.proof && of) delete taken.proof;
    give(taken);
  }

  useEffect(() => {
    place.classList.toggle("proved", result?.state === "proved");
  }, [result]);

  return html`
    <form onSubmit=${(event) => event.preventDefault()}
      onDragOver=${(event) => { event.preventDefault(); setOver(true); }}
      onDragLeave=${() => setOver(false)}
      onDrop=${(event) => { event.preventDefault(); setOver(false); take(event.dataTransfer.files); }}>
      <label>Key of whoever signs: name+id+key
        <textarea name="key" rows="2" spellcheck="false" autocomplete="off" value=${given.key}
          onInput=${(event) => give({ key: event.target.value })}></textarea></label>
      ${of && html`
        ${choices.length > 0 && html`<label>Checkpoints that the server has
          <select onChange=${(event) => give({ checkpoint: event.target.value })}>
            ${choices.map((one) => html`<option value=${one.text} selected=${one.text === given.checkpoint}>
              ${shownText(one.name)}: ${one.size.toLocaleString("en")} records, ${one.signed_at.slice(0, 16).replace("T", " ")}</option>`)}
            ${!choices.some((one) => one.text === given.checkpoint) && html`<option value=${given.checkpoint} selected>the one below</option>`}
          </select></label>`}
        <label>Signed checkpoint
          <textarea name="checkpoint" rows="7" spellcheck="false" autocomplete="off" value=${given.checkpoint}
            onInput=${(event) => give({ checkpoint: event.target.value })}></textarea></label>`}
      ${!of && html`<label>Proof
        <textarea name="proof" rows="8" spellcheck="false" autocomplete="off" value=${given.proof}
          onInput=${(event) => give({ proof: event.target.value })}></textarea></label>`}
      <label class=${isOver ? "drop over" : "drop"}>or drop the files here: ${of ? "key, checkpoint" : "key, proof"}
        <input type="file" multiple onChange=${(event) => take(event.target.files)} /></label>
    </form>
    <${Outcome} result=${result} isOfServer=${Boolean(of)} position=${position} />`;
}

function Outcome({ result, isOfServer, position }) {
  const steps = STEPS.map((name, step) => result?.steps[step] ?? { name, state: "waiting", says: "" });
  const isProved = result?.state === "proved";
  return html`<section aria-label="What the browser found">
    <p class=${`verdict ${result?.state ?? ""}`} role="status">
      ${result ? VERDICTS[result.state] : `Give ${isOfServer ? "a checkpoint and a key" : "a proof and a key"}`}</p>
    ${result?.says && html`<p class="notice">${shownText(result.says)}</p>`}
    <ol class="steps">${steps.map((step) => html`<li class=${step.state}>
      <span class="mark" aria-hidden="true">${MARKS[step.state]}</span>
      <strong>${step.name}<span class="unseen">: ${SPOKEN[step.state]}</span></strong>
      ${step.says && html`<p class=${step.state === "holds" ? "mono quiet" : ""}>${shownText(step.says)}</p>`}
      ${step.expected !== undefined && html`<dl class="pairs mono"><dt>expected</dt><dd>${shownText(step.expected)}</dd>
        <dt>found</dt><dd>${shownText(step.found ?? "nothing")}</dd></dl>`}
    </li>`)}</ol>
    ${isProved && html`<${Content} result=${result} />`}
    ${isOfServer && result?.text && html`<p><${Saved} text=${result.text} name=${`record-${position}.proof`} /></p>`}
  </section>`;
}

// What was proved, as the checker has read it from the proved bytes.
function Content({ result }) {
  const { record, message, erasures } = result;
  return html`<div class="proved-content box">
    <h2>What is proved, decoded from the proved bytes</h2>
    <dl class="pairs">${Object.entries(record).map(([name, value]) => html`<dt>${name}</dt>
      <dd>${name === "recorded_at" ? timeText(value) : shownText(String(value))}</dd>`)}</dl>
    ${message ? html`<pre tabindex="0">${jsonOf(message)}</pre>` : html`<p>Its content was erased. Proved is the commitment to it,
      which says what it was to whoever knows it, and nothing to others.</p>`}
    ${erasures?.map((one) => html`<p>Erased by erasure ${one.number}: <a href=${`../${one.position}/proof`}>prove the record of that, ${one.position}</a></p>`)}
  </div>`;
}

function Saved({ text, name }) {
  const [address, setAddress] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [text]);
  return html`<a class="button" href=${address} download=${name}>Save the proof</a>`;
}

// As JSON, with whole numbers of 64 bits, which JSON.stringify does not write.
function jsonOf(value, indent = "") {
  if (typeof value === "bigint") return String(value);
  if (typeof value === "number" && !Number.isFinite(value)) return `"${value}"`;
  if (value === null || typeof value !== "object") return shownText(JSON.stringify(value));
  const [inner, isList] = [`${indent}  `, Array.isArray(value)];
  const parts = isList
    ? value.map((each) => jsonOf(each, inner))
    : Object.entries(value).map(([name, held]) => `${shownText(JSON.stringify(name))}: ${jsonOf(held, inner)}`);
  const [open, close] = isList ? "[]" : "{}";
  return parts.length ? `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${close}` : open + close;
}

// A text that was pasted often lacks the newline at its end.
function ending(text) {
  return `${text.replaceAll("\r\n", "\n").trim()}\n`;
}

for (const place of document.querySelectorAll(".proof")) {
  place.replaceChildren();
  render(html`<${Checker} place=${place} />`, place);
}
