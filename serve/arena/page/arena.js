// From texts to a battle, from a vote to names. Texts only ever become text nodes.

const by = (id) => document.getElementById(id);
const FIELDS = ["instruction", "response", "rubric", "context"];
const SIDES = ["a", "b"];
const SAID = { a: "You voted for A.", b: "You voted for B.", tie: "You found both good.", both_bad: "You found both bad." };
let [sample, battle, busy] = [null, null, false];

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function say(text, now = false) {
  busy = now;
  by("status").textContent = text;
  by("status").classList.toggle("busy", now);
  by("judge").setAttribute("aria-disabled", String(now));
}

class Problem extends Error {}

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(new URL(path, document.baseURI), options);
  } catch {
    throw new Problem("The arena cannot be reached. Try again.");
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok && said) return said;
  throw new Problem(said?.error?.message ? `${said.error.message}.` : `The arena answered with ${answer.status}.`);
}

// One thing at a time; what goes wrong is said, and what was there stays.
async function during(words, work) {
  if (busy) return;
  by("problem").replaceChildren();
  say(words, true);
  try {
    say(await work());
  } catch (error) {
    say("");
    by("problem").replaceChildren(make("p", "", error instanceof Problem ? error.message : "The answer could not be shown."));
    if (!(error instanceof Problem)) console.error(error);
  }
}

function clear() {
  battle = null;
  for (const id of ["judges", "votes", "after"]) by(id).hidden = true;
  for (const side of SIDES) {
    by(`title-${side}`).replaceChildren(`Judge ${side.toUpperCase()}`);
    by(`judges`).children[side === "a" ? 0 : 1].classList.remove("chosen");
  }
}

function filled() {
  for (const name of ["instruction", "response"]) {
    by(name).setCustomValidity(by(name).value.trim() ? "" : "Please fill this in.");
  }
  return by("form").reportValidity();
}

function judge() {
  if (busy || !filled()) return;
  clear();
  toResult();
  const body = sample ? { sample } : Object.fromEntries(FIELDS.map((name) => [name, by(name).value]));
  during("Two judges are at work…", async () => {
    const found = await ask("api/battle", body);
    battle = found.battle;
    for (const side of SIDES) {
      by(`score-${side}`).textContent = `Score ${found[side].verdict} of ${found.scale.at(-1)}`;
      by(`critique-${side}`).textContent = found[side].critique;
    }
    by("judges").hidden = by("votes").hidden = false;
    return "Judged. Which judge is better?";
  });
}

function vote(choice) {
  if (busy || !battle) return;
  during("Your vote is on its way…", async () => {
    const told = await ask("api/vote", { battle, choice, website: by("website").value });
    battle = null;
    for (const side of SIDES) {
      const { judge, elo, elo_before: before } = told[side];
      const change = `${elo < before ? "−" : "+"}${Math.abs(elo - before).toFixed(1)}`;
      by(`title-${side}`).replaceChildren(`Judge ${side.toUpperCase()}: `, make("span", "named", judge));
      by(`title-${side}`).append(make("span", "soft small", ` Elo ${elo.toFixed(0)} (${change})`));
    }
    if (SIDES.includes(choice)) by("judges").children[choice === "a" ? 0 : 1].classList.add("chosen");
    by("votes").hidden = true;
    by("after").hidden = false;
    by("again").focus({ preventScroll: true });
    return `${SAID[choice]} A was ${told.a.judge}, B was ${told.b.judge}.`;
  });
}

function another() {
  during("Looking for an example…", async () => {
    const found = await ask("api/sample");
    clear();
    for (const name of FIELDS) by(name).value = found[name];
    if (found.rubric || found.context) document.querySelector("details").open = true;
    sample = found.sample;
    return "An example is filled in.";
  });
}

function again() {
  clear();
  say("Nothing judged yet.");
  if (sample) another();
  by("instruction").focus();
}

// On a narrow screen the judgments are below the form.
function toResult() {
  const { top } = by("result").getBoundingClientRect();
  if (top >= 0 && top < innerHeight / 2) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  by("result").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}

by("form").addEventListener("submit", (event) => {
  event.preventDefault();
  judge();
});
by("form").addEventListener("input", (event) => {
  event.target.setCustomValidity("");
  if (FIELDS.includes(event.target.id)) sample = null; // changed, it is the visitor's own
});
by("sample")?.addEventListener("click", another);
by("again").addEventListener("click", again);
for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => vote(button.dataset.choice));
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    judge();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
  const choice = ["a", "b", "tie", "both_bad"][Number(event.key) - 1];
  if (choice && !by("votes").hidden) vote(choice);
});
