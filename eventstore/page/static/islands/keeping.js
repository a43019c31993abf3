// What the reader has chosen, in local storage; nothing where that is forbidden.

export function kept(name) {
  try {
    const text = localStorage.getItem(name);
    if (text === null) return null;
    return name === "theme" ? text : JSON.parse(text);
  } catch {
    return null;
  }
}

export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, name === "theme" ? value : JSON.stringify(value));
  } catch {
    // It is forgotten with the page.
  }
}
