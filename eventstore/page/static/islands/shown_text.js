// Stored text as it is shown: what could not be seen, or reorders what is, is spelled out. As `eventstore.shown_text`.

const emoji = "\\u2190-\\u21ff\\u2300-\\u27bf\\u2b00-\\u2bff\\ufe0f\\u{1f000}-\\u{1faff}";
const unseen =
  "\\x00-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b\\u200c\\u200e\\u200f" +
  "\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ud800-\\udfff\\ufeff\\uffa0\\ufff0-\\ufffb" +
  "\\u{110bd}\\u{110cd}\\u{13430}-\\u{1343f}\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}";
const escaped = new RegExp(`[${unseen}]|(?<![${emoji}])\\u200d|\\u200d(?![${emoji}])`, "gu");
const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

export function shownText(text) {
  return text.replace(escaped, (character) => {
    if (short[character]) return short[character];
    const code = character.codePointAt(0);
    const digits = (length) => code.toString(16).padStart(length, "0");
    if (code < 0x100) return `\\x${digits(2)}`;
    return code < 0x10000 ? `\\u${digits(4)}` : `\\U${digits(8)}`;
  });
}
