// The row and the questions as elements. Texts of the data are only ever text.

import { keysOf } from "./keys.js";

const by = (id) => document.getElementById(id);

function element(tag, settings = {}, ...children) {
  const made = Object.assign(document.createElement(tag), settings);
  made.append(...children);
  return made;
}

const SUBSTANCE = [
  ["1", "1 fits any response"],
  ["2", "2"],
  ["3", "3"],
  ["4", "4"],
  ["5", "5 fits this one alone"],
];

function verdictName(task, verdict) {
  if (verdict === "unclear") return "cannot be told";
  if (task === "pairwise") return verdict === "Tie" ? "both are equal" : `Response ${verdict} is better`;
  return task === "absolute" ? `score ${verdict}` : verdict;
}

function questionsOf(pair) {
  const sides = [...pair.allowed, "unclear"].map((verdict) => [verdict, verdictName(pair.task, verdict)]);
  const of = (number) => [
    { name: `side_${number}`, place: `about-${number}`, text: "What does it argue for?", choices: sides },
    { name: `substance_${number}`, place: `about-${number}`, text: "How much is about this very response?", choices: SUBSTANCE },
  ];
  const better = [["1", "Critique 1"], ["2", "Critique 2"], ["equal", "neither"]];
  return [...of(1), ...of(2), { name: "better", place: "about-both", text: "Which critique is right, or closer to it?", choices: better }];
}

function textBlock(title, text) {
  if (!text) return [];
  return [element("h3", { textContent: title }), element("p", { className: "text", textContent: text, tabIndex: 0 })];
}

export function showRow(pair) {
  const several = pair.responses.length > 1;
  const responses = pair.responses.map((text, place) =>
    element("div", {}, ...textBlock(several ? `Response ${"AB"[place]}` : "Response", text || "(empty)")),
  );
  const grid = element("div", { className: "pair" }, ...responses);
  by("row").replaceChildren(
    ...textBlock("Instruction", pair.instruction),
    ...textBlock("Context", pair.context),
    grid,
    ...textBlock(pair.task === "classification" ? "Question" : "Rubric", pair.rubric),
    ...textBlock("Reference answer", pair.reference),
  );
  pair.critiques.forEach((text, place) => (by(`text-${place + 1}`).textContent = text || "(empty)"));
}

export class Questions {
  constructor(pair, answers, changed) {
    this.all = questionsOf(pair);
    this.answers = {};
    for (const place of ["about-1", "about-2", "about-both"]) by(place).replaceChildren();
    for (const question of this.all) {
      const keys = keysOf(question.choices.map(([value]) => value));
      question.radios = new Map(); // key -> radio
      const labels = question.choices.map(([value, text], place) => {
        const radio = element("input", { type: "radio", name: question.name, value });
        radio.addEventListener("change", () => {
          this.answers[question.name] = value;
          this.mark();
          changed(this.answers);
        });
        if (answers[question.name] === value) {
          radio.checked = true;
          this.answers[question.name] = value;
        }
        if (!keys[place]) return element("label", {}, radio, text);
        question.radios.set(keys[place], radio);
        const shown = element("kbd", { textContent: keys[place] });
        shown.setAttribute("aria-hidden", "true"); // no part of the choice's name: the radio says its key itself
        return element("label", {}, radio, shown, text);
      });
      question.field = element("fieldset", {}, element("legend", { textContent: question.text }), element("div", { className: "choice" }, ...labels));
      question.field.addEventListener("focusin", () => this.mark(question));
      by(question.place).append(question.field);
    }
    this.mark();
  }

  // The question that a key answers: the one with the focus, else the first that is open.
  mark(at = this.open[0]) {
    this.now = at ?? null;
    for (const question of this.all) {
      question.field.classList.toggle("now", question === this.now);
      if (question.name in this.answers) question.field.removeAttribute("aria-invalid");
    }
  }

  get open() {
    return this.all.filter((question) => !(question.name in this.answers));
  }

  // Whether the keys are told of: not while they are switched off.
  showKeys(on) {
    for (const { radios } of this.all) {
      for (const [key, radio] of radios) {
        if (on) radio.setAttribute("aria-keyshortcuts", key);
        else radio.removeAttribute("aria-keyshortcuts");
        radio.parentElement.querySelector("kbd").hidden = !on;
      }
    }
  }

  press(key) {
    const radio = this.now?.radios.get(key);
    if (!radio) return false;
    radio.checked = true;
    radio.dispatchEvent(new Event("change"));
    this.now?.field.scrollIntoView({ block: "nearest" });
    return true;
  }

  complain() {
    for (const question of this.open) question.field.setAttribute("aria-invalid", "true");
    this.open[0]?.field.querySelector("input").focus();
  }
}
