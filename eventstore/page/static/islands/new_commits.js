// Announces what was put since a page of now was made; nothing of the page moves by itself.

const EVERY_MS = 30_000;

// `place` is a live region: its data has the API's address, and the commit that the page ends with.
export function announceCommits(place) {
  const query = new URLSearchParams(location.search);
  const isNow = !query.has("at") || query.get("until") === "now";
  if (!isNow || !place.dataset.newestCommit) return;
  const known = Number(place.dataset.newestCommit);

  async function look() {
    if (document.hidden) return;
    // Browsers ask with the ETag that they have: as long as nothing is put, nothing is sent.
    const answer = await fetch(`${place.dataset.newCommits}/commits?limit=1`).catch(() => null);
    if (!answer?.ok) return;
    const { commits: [newest] } = await answer.json();
    const count = (newest?.commit ?? known) - known;
    if (count <= 0) return;
    const said = `${count.toLocaleString("en")} new ${count === 1 ? "commit" : "commits"}, `;
    if (place.firstChild?.textContent === said) return;
    const show = document.createElement("a");
    show.href = location.href;
    show.textContent = "show";
    place.replaceChildren(said, show);
  }

  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
}
