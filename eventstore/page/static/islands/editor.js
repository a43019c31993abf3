// A text field with completion, colours and errors at their place. It lives in a shadow root, where
// the style sheets that it makes pass the page's policy.

import {
  Compartment, EditorState, EditorView, HighlightStyle, Prec, SQLDialect, acceptCompletion, autocompletion,
  completionKeymap, defaultKeymap, drawSelection, history, historyKeymap, keymap, setDiagnostics, sql,
  startCompletion, syntaxHighlighting, tags,
} from "../parts/codemirror.js";

const COLOURS = HighlightStyle.define([
  { tag: tags.keyword, fontWeight: "600" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--ok)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--changed)" },
  { tag: tags.comment, color: "var(--ink-2)", fontStyle: "italic" },
]);

const LOOKS = EditorView.theme({
  "&": { backgroundColor: "var(--bg)", color: "var(--ink)", border: "1px solid var(--line-strong)", borderRadius: "var(--round)" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "1px" },
  ".cm-scroller": { font: "var(--mono)", overflow: "auto" },
  ".cm-content": { padding: "3px 0", caretColor: "var(--ink)" },
  ".cm-line": { padding: "0 8px" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--line)" },
  ".cm-lintRange-error": { backgroundImage: "none", textDecoration: "underline wavy var(--bad)", textUnderlineOffset: "3px" },
  ".cm-tooltip": { backgroundColor: "var(--bg)", color: "var(--ink)", border: "1px solid var(--line-strong)", borderRadius: "var(--round)" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { font: "var(--mono)", maxHeight: "16em", maxWidth: "min(640px, 92vw)" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { padding: "2px 8px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--ink)", color: "var(--bg)" },
  ".cm-completionDetail": { color: "var(--ink-2)", fontStyle: "normal", marginLeft: "16px" },
  "li[aria-selected] .cm-completionDetail": { color: "inherit" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "600" },
  ".cm-completionIcon": { display: "none" },
});

const FILTERS = SQLDialect.define({
  keywords: "and or not in like between is null true false",
  identifierQuotes: "`",
  doubleQuotedStrings: true,
  backslashEscapes: true,
});

const QUERIES = SQLDialect.define({
  keywords:
    "select from where group by having order limit offset as on using join left right full inner outer cross and or not in like ilike " +
    "between is null true false case when then else end distinct union all except intersect with recursive over partition rows range " +
    "asc desc nulls first last exists interval cast filter within describe summarize pivot unpivot sample qualify window values lateral exclude replace",
  types: "bigint integer double varchar boolean timestamp date interval struct map list blob timestamptz decimal",
  doubleDollarQuotedStrings: true,
});

// Make an editor in `host`. `language` is "filter", which has one line, or "sql". `complete` is
// CodeMirror's source of completions, `schema` names of views with those of their columns. `onEnter`
// is called for Enter in one line and for Ctrl+Enter in several, `onChange` with each new text.
export function makeEditor(host, { text, label, language, complete, schema, onChange, onEnter }) {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const isFilter = language === "filter";
  const said = new Compartment();
  const entered = () => {
    onEnter?.();
    return true;
  };
  const keys = isFilter
    ? [{ key: "Enter", run: (view) => acceptCompletion(view) || entered() }]
    : [{ key: "Mod-Enter", run: entered }];
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      selection: { anchor: text.length },
      extensions: [
        history(),
        drawSelection(),
        LOOKS,
        syntaxHighlighting(COLOURS),
        sql({ dialect: isFilter ? FILTERS : QUERIES, schema, upperCaseKeywords: true }),
        autocompletion({ selectOnOpen: !isFilter, icons: false, ...(complete && { override: [complete] }) }),
        Prec.highest(keymap.of(keys)),
        keymap.of([...completionKeymap, ...defaultKeymap, ...historyKeymap]),
        isFilter ? EditorState.transactionFilter.of(onOneLine) : EditorView.lineWrapping,
        said.of(attributes(label)),
        EditorView.domEventHandlers({ beforeinput: replaceSelected }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) onChange?.(update.state.doc.toString());
        }),
      ],
    }),
  });
  return {
    view,
    get text() {
      return view.state.doc.toString();
    },
    set text(text) {
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
    },
    // Mark what is wrong from a place on, and say so to those who don't see it; null for nothing.
    mark(place, message) {
      const length = view.state.doc.length;
      const from = Math.min(place ?? length, length);
      const to = Math.max(from, wordEnd(view.state, from));
      const found = message === null ? [] : [{ from: Math.min(from, Math.max(0, to - 1)), to, severity: "error", message }];
      view.dispatch(setDiagnostics(view.state, found));
      view.dispatch({ effects: said.reconfigure(attributes(label, message)) });
    },
    focus() {
      view.focus();
    },
    complete() {
      startCompletion(view);
    },
  };
}

function attributes(label, fault = null) {
  return EditorView.contentAttributes.of({
    "aria-label": label,
    autocapitalize: "off",
    ...(fault && { "aria-invalid": "true", "aria-description": fault }),
  });
}

function wordEnd(state, from) {
  const word = /^(?:[\w.`]+|\S)/.exec(state.doc.sliceString(from, from + 200));
  return from + (word ? word[0].length : 0);
}

// Text typed over a selection. The browser itself would keep the looks of what was there by a style
// attribute, which the page's policy forbids.
function replaceSelected(event, view) {
  const { state } = view;
  if (event.inputType !== "insertText" || !event.data || event.isComposing || state.selection.main.empty) return false;
  event.preventDefault();
  view.dispatch({ ...state.replaceSelection(event.data), userEvent: "input.type", scrollIntoView: true });
  return true;
}

// Line breaks that are pasted become spaces.
function onOneLine(transaction) {
  if (!transaction.docChanged || transaction.newDoc.lines === 1) return transaction;
  const text = transaction.newDoc.toString().replace(/\s*\n\s*/g, " ");
  return [{
    changes: { from: 0, to: transaction.startState.doc.length, insert: text },
    selection: { anchor: Math.min(transaction.newSelection.main.head, text.length) },
  }];
}

// Python counts characters, JavaScript units of UTF-16.
export function characters(text, units) {
  return [...text.slice(0, units)].length;
}

export function units(text, count) {
  return [...text].slice(0, count).join("").length;
}
