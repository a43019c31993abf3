// Asks the API for JSON, and tells in an Error why there is none.

export async function asked(address, { body, ...options } = {}) {
  const sent = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
  };
  let answer;
  try {
    answer = await fetch(address, { ...sent, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: it has ended, or cannot be reached");
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  if (answer.status === 401) throw new Error("you are not signed in any more: load the page again");
  throw new Error(told.detail ?? `the server answers ${answer.status}`);
}
