// Starts and stops a judgment, and says how it went.

import { EXAMPLES } from "./examples.js";
import { addCriterion, arrange, asCurl, check, fill, question } from "./question.js";
import { Cards } from "./result.js";
import { ask, Problem } from "./stream.js";

const by = (id) => document.getElementById(id);
const STORED = "openselene-key";
let [running, asked, answer] = [null, null, null];

// `unseen` is for ears only: eyes find it in the cards.
function say(text, { busy = false, unseen = "" } = {}) {
  const heard = Object.assign(document.createElement("span"), { className: "unseen", textContent: ` ${unseen}` });
  by("status").replaceChildren(text, ...(unseen ? [heard] : []));
  by("status").classList.toggle("busy", busy);
}

function complain(problem) {
  const lines = [problem.message, problem.request && `Request ${problem.request}`].filter(Boolean);
  by("problem").replaceChildren(
    ...lines.map((line, place) => Object.assign(document.createElement("p"), { textContent: line, className: place ? "small soft" : "" })),
  );
  if (problem.status === 401) {
    by("key").setAttribute("aria-invalid", "true");
    by("key").setAttribute("aria-describedby", "problem key-hint");
    by("key").focus();
  }
}

function busy(now) {
  by("stop").hidden = !now;
  by("judge").setAttribute("aria-disabled", String(now));
  by("judgments").setAttribute("aria-busy", String(now));
}

async function judge() {
  if (running || !check()) return;
  const key = by("key").value.trim();
  sessionStorage.setItem(STORED, key);
  [running, asked, answer] = [new AbortController(), question(), null];
  by("problem").replaceChildren();
  by("key").removeAttribute("aria-invalid");
  by("key").setAttribute("aria-describedby", "key-hint");
  by("copied").textContent = "";
  by("after").hidden = true;
  busy(true);
  say("Judging…", { busy: true });
  const cards = new Cards(asked);
  toResult();
  try {
    await ask(asked.route, asked.body, key, running.signal, (event, data) => {
      if (event === "critique") cards.write(data);
      if (event === "result") say("Done.", { unseen: `${cards.finish((answer = data))}.` });
    });
  } catch (error) {
    cards.stop("No verdict.");
    if (error.name === "AbortError") say("Stopped.");
    else {
      say("No verdict.");
      complain(error instanceof Problem ? error : new Problem("The answer of the service could not be shown."));
      if (!(error instanceof Problem)) console.error(error);
    }
  }
  if (document.activeElement === by("stop")) by("judge").focus();
  by("after").hidden = false;
  by("copy-json").hidden = !answer;
  running = null;
  busy(false);
}

// On a narrow screen the result is below the form; on a wide one its top may be above the window.
function toResult() {
  const { top } = by("result").getBoundingClientRect();
  if (top >= 0 && top < innerHeight / 2) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  by("result").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS, and not on this machine, browsers have no clipboard interface.
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    const before = document.activeElement;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before.focus();
    if (!done) return void (by("copied").textContent = "The browser does not allow copying.");
  }
  by("copied").textContent = `${what} copied.`;
}

by("form").addEventListener("submit", (event) => {
  event.preventDefault();
  judge();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  judge();
});
by("form").addEventListener("change", (event) => event.target.name === "task" && arrange());
by("form").addEventListener("input", (event) => event.target.setCustomValidity?.(""));
by("stop").addEventListener("click", () => running?.abort());
by("add-criterion").addEventListener("click", () => addCriterion().querySelector(".name").focus());
by("copy-curl").addEventListener("click", () => copy(asCurl(asked, Boolean(by("key").value.trim())), "Command"));
by("copy-json").addEventListener("click", () => copy(JSON.stringify(answer, null, 2), "JSON"));
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => {
    fill(button.dataset.example, EXAMPLES[button.dataset.example]);
    if (!running) say("An example is filled in.");
  });
}
by("key").value = sessionStorage.getItem(STORED) ?? "";
addCriterion();
