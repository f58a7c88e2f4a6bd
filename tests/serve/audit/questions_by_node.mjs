// Presses keys on the real questions of the page, with as little of a document as they need.
// Called with the folder of the page's files and a JSON list of [pair, keys pressed, keys shown]; prints what came of each.

import { pathToFileURL } from "node:url";

class Element {
  constructor(tag) {
    Object.assign(this, { tag, children: [], attributes: {}, heard: {}, parentElement: null });
    this.classList = { toggle: () => {} };
  }
  append(...added) {
    for (const one of added) if (one instanceof Element) one.parentElement = this;
    this.children.push(...added);
  }
  replaceChildren(...added) {
    this.children = [];
    this.append(...added);
  }
  addEventListener(name, heard) {
    this.heard[name] = heard;
  }
  dispatchEvent(event) {
    this.heard[event.type]?.(event);
  }
  setAttribute(name, value) {
    this.attributes[name] = value;
  }
  removeAttribute(name) {
    delete this.attributes[name];
  }
  scrollIntoView() {}
  *all() {
    for (const child of this.children) if (child instanceof Element) yield child, yield* child.all();
  }
  querySelectorAll(tag) {
    return [...this.all()].filter((one) => one.tag === tag);
  }
  querySelector(tag) {
    return this.querySelectorAll(tag)[0] ?? null;
  }
  // What a screen reader says: no part that is hidden from it.
  get said() {
    if (this.attributes["aria-hidden"] === "true") return "";
    return (this.textContent ?? "") + this.children.map((child) => child.said ?? child).join("");
  }
}

const places = {};
globalThis.document = {
  createElement: (tag) => new Element(tag),
  getElementById: (id) => (places[id] ??= new Element("div")),
};

const { Questions } = await import(new URL("questions.js", pathToFileURL(`${process.argv[2]}/`)));
const found = JSON.parse(process.argv[3]).map(([pair, pressed, on]) => {
  const questions = new Questions(pair, {}, () => {});
  questions.showKeys?.(on);
  const choices = questions.all[0].field.querySelectorAll("label").map((label) => {
    const [radio, shown] = [label.querySelector("input"), label.querySelector("kbd")];
    const visible = shown && !shown.hidden ? shown.textContent : null;
    return { value: radio.value, key: visible, told: radio.attributes["aria-keyshortcuts"] ?? null, said: label.said };
  });
  const took = pressed.map((key) => questions.press(key));
  return { choices, took, answers: questions.answers };
});
console.log(JSON.stringify(found));
