// Runs before the page is drawn, so that a theme that was set does not flash.
(() => {
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Local storage may be forbidden; then the system's theme stays.
  }
})();
