// Critiques as they are written, then verdicts and probabilities. Texts only ever become text nodes.

const by = (id) => document.getElementById(id);

// The judge names responses by their place, so its critique of the second order has them the other way round.
const NAMES = {
  given: "The critique names the responses as you do.",
  swapped: "The critique calls your B “A”, and your A “B”. The verdict below does not.",
};

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1%";
  if (share < 1 && share > 0.9995) return "> 99.9%";
  return `${(share * 100).toFixed(1)}%`;
}

function sentence(task, verdict) {
  if (task === "absolute") return `Score ${verdict}`;
  if (task === "classify") return `The answer is “${verdict}”`;
  return verdict === "Tie" ? "Both are equally good" : `Response ${verdict} is better`;
}

export class Cards {
  // Draws what is to come, so that nothing jumps when it comes.
  constructor(question) {
    this.question = question;
    this.critiques = new Map();
    this.orders = question.body.both_orders ? ["given", "swapped"] : ["given"];
    this.names = (question.body.criteria ?? [{ name: null }]).map((criterion) => criterion.name);
    by("judgments").replaceChildren(...this.names.map((name) => this.empty(name)));
  }

  empty(name) {
    const card = make("article", "card");
    if (name !== null) card.append(make("h3", "", name));
    card.append(make("p", "verdict waiting", this.question.body.with_critique ? "The critique comes first." : "Waiting."));
    if (!this.question.body.with_critique) return card;
    const orders = make("div", "orders");
    for (const order of this.orders) orders.append(this.order(name, order));
    card.append(orders);
    return card;
  }

  order(name, order) {
    const part = make("section");
    const level = name === null ? "h3" : "h4";
    if (this.orders.length > 1) {
      part.append(make(level, "", order === "given" ? "A first, then B" : "B first, then A"));
    } else part.append(make(level, "", "Critique"));
    if (this.question.body.with_critique) {
      if (this.orders.length > 1) part.append(make("p", "hint", NAMES[order]));
      const critique = make("div", "critique");
      critique.tabIndex = 0; // it scrolls: the keyboard must reach it
      critique.setAttribute("role", "group");
      critique.setAttribute("aria-label", ["Critique", name, order === "swapped" ? "B first" : ""].filter(Boolean).join(", "));
      this.critiques.set(JSON.stringify([name, order]), critique);
      part.append(critique);
    }
    return part;
  }

  write({ criterion, order, text }) {
    const critique = this.critiques.get(JSON.stringify([criterion ?? null, order ?? "given"]));
    if (!critique) return;
    const atEnd = critique.scrollHeight - critique.scrollTop - critique.clientHeight < 40;
    critique.append(text);
    if (atEnd) critique.scrollTop = critique.scrollHeight;
  }

  // Shows the whole answer; returns its verdicts in one sentence, for the status line.
  finish(answer) {
    by("judgments").replaceChildren(...answer.results.map((result) => this.card(result)), this.cost(answer));
    return answer.results
      .map((result) => `${result.criterion ? `${result.criterion}: ` : ""}${sentence(this.question.task, result.verdict)}`)
      .join(". ");
  }

  card(result) {
    const { task } = this.question;
    const card = make("article", "card");
    const orders = result.orders ?? [];
    this.orders = orders.length > 1 ? orders.map((one) => one.order) : ["given"];
    if (result.criterion) card.append(make("h3", "", result.criterion));
    const share = result.probabilities[result.verdict];
    card.append(make("p", "verdict", `${sentence(task, result.verdict)}, with a probability of ${percent(share)}.`));
    if (typeof result.expected_score === "number") {
      card.append(make("p", "small", `Expected score: ${result.expected_score.toFixed(2)}, on a scale of ${scale(result.probabilities)}.`));
    }
    card.append(bars(result, orders.length > 1 ? "Probability of each verdict, mean of both orders" : "Probability of each verdict"));
    if (typeof result.consistent === "boolean") {
      card.append(
        result.consistent
          ? make("p", "small agree", "✓ Both orders agree.")
          : make("p", "small disagree", "✗ The orders disagree: which response comes first decides. Do not rely on this verdict."),
      );
    }
    if (orders.length > 1) card.append(this.sideBySide(result));
    else if (result.critique) card.append(this.single(result));
    return card;
  }

  single(result) {
    const part = make("div", "orders");
    const section = this.order(result.criterion ?? null, "given");
    this.put(result.criterion, "given", result.critique);
    section.append(...ended(result));
    part.append(section);
    return part;
  }

  sideBySide(result) {
    const part = make("div", "orders");
    for (const one of result.orders) {
      const section = this.order(result.criterion ?? null, one.order);
      this.put(result.criterion, one.order, one.critique);
      section.append(make("p", "said", `${sentence(this.question.task, one.verdict)}.`), bars(one, "In this order"), ...ended(one));
      part.append(section);
    }
    return part;
  }

  put(criterion, order, text) {
    const critique = this.critiques.get(JSON.stringify([criterion ?? null, order]));
    if (critique) critique.textContent = text ?? "";
  }

  cost({ usage, seconds, model }) {
    const cached = usage.cached_tokens ? `, ${usage.cached_tokens} of them from the cache` : "";
    const count = (n) => n.toLocaleString("en");
    return make(
      "p",
      "small soft",
      `${count(usage.prompt_tokens)} tokens read${cached}, ${count(usage.output_tokens)} written, ${seconds.toFixed(1)} s, by ${model}. Probabilities are the model's own, over the allowed verdicts.`,
    );
  }

  // After an end without a verdict: what has been written stays, and nothing seems to be on its way.
  stop(words) {
    if (![...this.critiques.values()].some((critique) => critique.textContent)) by("judgments").replaceChildren();
    for (const waiting of document.querySelectorAll("#judgments .waiting")) waiting.textContent = words;
  }
}

function ended({ parse_status: status }) {
  const words = "The judge did not come to its verdict by itself: its critique was ended, and it was made to choose.";
  return status === "completed" ? [make("p", "hint ended", words)] : [];
}

function scale(probabilities) {
  const scores = Object.keys(probabilities).map(Number);
  return `${Math.min(...scores)} to ${Math.max(...scores)}`;
}

function bars({ verdict, probabilities }, caption) {
  const short = Object.keys(probabilities).every((label) => label.length < 6);
  const table = make("table", short ? "short" : "");
  table.append(make("caption", "", caption));
  const body = table.appendChild(make("tbody"));
  for (const [label, share] of Object.entries(probabilities)) {
    const row = make("tr", label === verdict ? "given" : "");
    const head = make("th", "", label === verdict ? `✓ ${label}` : label);
    head.scope = "row";
    const track = make("td", "track");
    track.setAttribute("aria-hidden", "true");
    // A property, which the content security policy allows; an attribute it would not.
    track.appendChild(make("div", "bar")).style.width = `${share * 100}%`;
    row.append(head, track, make("td", "", percent(share)));
    body.append(row);
  }
  return table;
}
