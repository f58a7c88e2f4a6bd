// Talks to the server, and remembers on this device: the name, the key, and what is chosen and not yet saved.

const KEY = new URLSearchParams(location.hash.slice(1)).get("key");
if (KEY) {
  sessionStorage.setItem("audit-key", KEY);
  history.replaceState(null, "", location.pathname); // out of sight of those who look over a shoulder
}

export const name = {
  get: () => localStorage.getItem("audit-name") ?? "",
  set: (value) => localStorage.setItem("audit-name", value),
};

export const keysOn = {
  get: () => localStorage.getItem("audit-keys") !== "off",
  set: (on) => localStorage.setItem("audit-keys", on ? "on" : "off"),
};

const draftOf = (who, pair) => `audit-draft ${who} ${pair}`;

export const draft = {
  get: (who, pair) => JSON.parse(localStorage.getItem(draftOf(who, pair)) ?? "{}"),
  set: (who, pair, answers) => localStorage.setItem(draftOf(who, pair), JSON.stringify(answers)),
  drop: (who, pair) => localStorage.removeItem(draftOf(who, pair)),
};

async function ask(path, settings = {}) {
  const headers = { "content-type": "application/json", "x-audit-key": sessionStorage.getItem("audit-key") ?? "" };
  let answer;
  try {
    answer = await fetch(path, { ...settings, headers });
  } catch {
    throw new Error("The server does not answer. Your choices stay here: try again.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(typeof body.detail === "string" ? body.detail : `The server refused (${answer.status}).`);
  return body;
}

export const pairs = (annotator) => ask(`api/pairs?annotator=${encodeURIComponent(annotator)}`);

export const save = (annotator, pair, answers, seconds) =>
  ask(`api/answers/${encodeURIComponent(pair)}`, { method: "PUT", body: JSON.stringify({ annotator, answers, seconds }) });
