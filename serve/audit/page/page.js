// Leads an annotator through the pairs: the name, one pair after the other, the end; and back.

import { Questions, showRow } from "./questions.js";
import { draft, keysOn, name, pairs, save } from "./store.js";

const by = (id) => document.getElementById(id);
let [who, all, saved, place, questions, since, busy] = ["", [], {}, 0, null, 0, false];

function show(part) {
  for (const id of ["who", "pair", "end"]) by(id).hidden = id !== part;
  by("progress").hidden = part === "who";
}

function count() {
  const done = all.filter((pair) => pair.id in saved).length;
  by("progress").max = Math.max(all.length, 1);
  by("progress").value = done;
  by("where").textContent = who ? `${who}: ${done} of ${all.length} answered` : "";
}

function go(to) {
  place = to;
  count();
  if (place >= all.length) {
    show("end");
    by("end").focus();
    return;
  }
  const pair = all[place];
  show("pair");
  by("problem").textContent = "";
  by("title").textContent = `Pair ${place + 1} of ${all.length}`;
  showRow(pair);
  questions = new Questions(pair, { ...saved[pair.id], ...draft.get(who, pair.id) }, (answers) => draft.set(who, pair.id, answers));
  questions.showKeys(by("keys").checked);
  by("back").disabled = place === 0;
  since = performance.now();
  scrollTo(0, 0);
  by("title").focus({ preventScroll: true });
}

const next = () => {
  const open = all.findIndex((pair, at) => at > place && !(pair.id in saved));
  const before = all.findIndex((pair) => !(pair.id in saved));
  return open >= 0 ? open : before >= 0 ? before : all.length;
};

async function start() {
  const given = by("name").value.trim();
  if (!given) return by("name").focus();
  try {
    const found = await pairs(given);
    [who, all, saved] = [found.annotator, found.pairs, found.answers]; // the name as the server writes it
  } catch (error) {
    by("where").textContent = error.message;
    return;
  }
  name.set(who);
  place = -1;
  go(next());
}

async function keep() {
  if (busy) return;
  if (questions.open.length) {
    by("problem").textContent = `${questions.open.length} question${questions.open.length > 1 ? "s are" : " is"} open.`;
    questions.complain();
    return;
  }
  const [pair, answers] = [all[place], { ...questions.answers }];
  busy = true;
  try {
    await save(who, pair.id, answers, Math.round((performance.now() - since) / 100) / 10);
    saved[pair.id] = answers;
    draft.drop(who, pair.id);
    go(next());
  } catch (error) {
    by("problem").textContent = error.message;
  } finally {
    busy = false;
  }
}

by("who").addEventListener("submit", (event) => (event.preventDefault(), start()));
by("pair").addEventListener("submit", (event) => (event.preventDefault(), keep()));
by("back").addEventListener("click", () => go(Math.max(0, place - 1)));
by("again").addEventListener("click", () => go(0));
by("leave").addEventListener("click", () => {
  [who, questions] = ["", null];
  show("who");
  count();
  by("name").focus();
});
by("keys").checked = keysOn.get();
by("keys").addEventListener("change", () => {
  keysOn.set(by("keys").checked);
  questions?.showKeys(by("keys").checked);
});

addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input[type=text], textarea");
  if (by("pair").hidden || typing || !by("keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
  const done =
    questions.press(event.key.toLowerCase()) ||
    (event.key === "Enter" && !event.target.matches?.("button") && (keep(), true)) ||
    (event.key.toLowerCase() === "b" && !by("back").disabled && (go(place - 1), true));
  if (done) event.preventDefault();
});

by("name").value = name.get();
by("name").focus();
