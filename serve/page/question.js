// The form as a question to the API: what is filled in, sent and copied.

const by = (id) => document.getElementById(id);
const RUBRIC = { pairwise: "Rubric: what makes one better", absolute: "Rubric: what each score means", classify: "Question" };

const SCORES = 32; // as many labels as the API takes

export const task = () => document.querySelector('input[name="task"]:checked').value;

// Shows what the task needs. What it does not need is disabled too, so that the browser does not ask for it.
export function arrange() {
  const now = task();
  for (const part of document.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").includes(now);
    for (const field of part.querySelectorAll("input, textarea")) field.disabled = part.hidden;
  }
  const criteria = [...by("criteria").children];
  criteria.forEach((criterion, place) => {
    const many = criteria.length > 1;
    criterion.querySelector("legend").textContent = `Criterion ${place + 1}`;
    criterion.querySelector(".asks").textContent = RUBRIC[now];
    criterion.querySelector(".rubric").required = now === "classify" || many;
    criterion.querySelector(".named").hidden = !many;
    criterion.querySelector(".name").disabled = !many;
    criterion.querySelector(".remove").hidden = !many;
    criterion.querySelector(".remove").setAttribute("aria-label", `Remove criterion ${place + 1}`);
  });
}

let made = 0;

export function addCriterion({ name = "", rubric = "" } = {}) {
  const criterion = by("criterion").content.cloneNode(true).firstElementChild;
  made += 1;
  for (const [field, label, value] of [["name", ".named label", name], ["rubric", ".asks", rubric]]) {
    const input = criterion.querySelector(`.${field}`);
    input.id = `${field}-${made}`;
    input.value = value;
    criterion.querySelector(label).htmlFor = input.id;
  }
  criterion.querySelector(".remove").addEventListener("click", () => {
    const other = criterion.previousElementSibling ?? criterion.nextElementSibling;
    criterion.remove();
    arrange();
    other.querySelector(".rubric").focus();
  });
  by("criteria").append(criterion);
  arrange();
  return criterion;
}

export function fill(name, example) {
  document.querySelector(`input[name="task"][value="${name}"]`).checked = true;
  by("instruction").value = example.instruction;
  by("response-a").value = example.responses[0];
  by("response-b").value = example.responses[1] ?? "";
  by("context").value = example.context ?? "";
  by("reference").value = "";
  if (example.context) document.querySelector("details").open = true;
  by("ties").checked = example.options.ties ?? false;
  by("both-orders").checked = example.options.bothOrders ?? true;
  by("lowest").value = example.options.lowest ?? 1;
  by("highest").value = example.options.highest ?? 5;
  by("labels").value = example.options.labels ?? "Yes, No";
  by("criteria").replaceChildren();
  example.criteria.forEach(addCriterion);
}

function allowed(now) {
  if (now === "pairwise") return by("ties").checked ? ["A", "B", "Tie"] : ["A", "B"];
  if (now === "classify") return by("labels").value.split(",").map((label) => label.trim()).filter(Boolean);
  const [low, high] = [Number(by("lowest").value), Number(by("highest").value)];
  return Array.from({ length: Math.max(0, high - low + 1) }, (_, place) => String(low + place));
}

// What is wrong with the form beyond what the browser itself checks, set on the field; the browser then says it.
export function check() {
  const now = task();
  const [low, high] = [Number(by("lowest").value), Number(by("highest").value)];
  const range = high - low < 2 ? "The highest score is at least 2 above the lowest." : high - low >= SCORES ? `At most ${SCORES} scores.` : "";
  by("highest").setCustomValidity(now === "absolute" ? range : "");
  const labels = allowed("classify");
  const two = labels.length > 1 && new Set(labels).size === labels.length;
  by("labels").setCustomValidity(now === "classify" && !two ? "Write at least two different answers, with commas between." : "");
  const names = [...document.querySelectorAll("#criteria .name")];
  names.forEach((name, place) => {
    const twice = names.slice(0, place).some((other) => other.value.trim() === name.value.trim());
    name.setCustomValidity(names.length > 1 && twice ? "Two criteria have this name." : "");
  });
  return by("form").reportValidity();
}

// The route and the body of the request.
export function question() {
  const now = task();
  const body = { instruction: by("instruction").value };
  for (const field of ["context", "reference", "model"]) if (by(field).value.trim()) body[field] = by(field).value;
  if (now === "pairwise") body.responses = [by("response-a").value, by("response-b").value];
  else body.response = by("response-a").value;
  const criteria = [...by("criteria").children].map((criterion) => ({
    name: criterion.querySelector(".name").value.trim(),
    rubric: criterion.querySelector(".rubric").value,
  }));
  if (criteria.length > 1) body.criteria = criteria;
  else if (criteria[0].rubric.trim()) body.rubric = criteria[0].rubric;
  body.allowed = allowed(now);
  if (now === "pairwise") body.both_orders = by("both-orders").checked;
  body.with_critique = by("with-critique").checked;
  return { task: now, route: new URL(`v1/judge/${now}`, document.baseURI).href, body };
}

// A command for a POSIX shell. The key stands in a variable: a copied text travels far.
export function asCurl({ route, body }, withKey) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const key = withKey ? ' \\\n  -H "Authorization: Bearer $OPENSELENE_API_KEY"' : "";
  return `curl ${quoted(route)}${key} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body, null, 2))}`;
}
