// One request whose answer comes as server-sent events, and its failures in words.

export class Problem extends Error {
  constructor(message, { status = 0, request = "" } = {}) {
    super(message);
    this.status = status;
    this.request = request;
  }
}

// Sends the body and calls `on(event, data)` for each event; ends with the last one.
export async function ask(route, body, key, signal, on) {
  const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(route, { method: "POST", headers, body: JSON.stringify({ ...body, stream: true }), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service cannot be reached. Is it running, and is the network up?");
  }
  const request = response.headers.get("X-Request-Id") ?? "";
  if (!response.ok) throw new Problem(await inWords(response, Boolean(key)), { status: response.status, request });
  let whole = false;
  for await (const [event, data] of events(response.body)) {
    if (event === "error") throw new Problem(said(data) || "The service gave up.", { request: data.request_id ?? request });
    whole ||= event === "result";
    on(event, data);
  }
  if (!whole) throw new Problem("The answer ended without a verdict. Try again.", { request });
}

// The events of a stream as [name, parsed data], however the network cuts it.
export async function* events(stream) {
  const decoder = new TextDecoder();
  let [rest, name, data] = ["", "message", []];
  for await (const chunk of pieces(stream)) {
    rest += chunk ? decoder.decode(chunk, { stream: true }) : `${decoder.decode()}\n\n`;
    // A carriage return at the very end may be the first half of a line's end.
    const cut = rest.endsWith("\r") ? rest.length - 1 : rest.length;
    const lines = rest.slice(0, cut).split(/\r\n|\n|\r/);
    rest = lines.pop() + rest.slice(cut);
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield [name, JSON.parse(data.join("\n"))];
        [name, data] = ["message", []];
      } else if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
  }
}

// What the network brings, then null for the end. Frees the connection however its reader leaves.
async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      yield done ? null : value;
      if (done) return;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The answer broke off. Try again.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

const said = (data) => data?.error?.message ?? data?.message ?? "";

async function inWords(response, hadKey) {
  let message = "";
  try {
    message = said(await response.json());
  } catch {
    // Not JSON: a proxy's own page, say. Its status has to do.
  }
  if (response.status === 401) return hadKey ? "The service does not know this key." : "The service wants an API key.";
  if (response.status === 403) return `This key may not do that. ${message}`.trim();
  if (response.status === 413) return message || "The texts are too long.";
  if (response.status === 429 || response.status === 503) {
    const why = response.status === 429 ? "Too many requests with this key." : "The service is busy or about to stop.";
    return `${why} ${again(response.headers.get("Retry-After"))}`;
  }
  if (response.status === 504) return "The judge took too long and was stopped. Try again, or with shorter texts.";
  return message || `The service answered with status ${response.status}.`;
}

// Retry-After holds seconds or a date.
export function again(after) {
  if (!after) return "Try again in a moment.";
  const seconds = /^\d+$/.test(after.trim()) ? Number(after) : Math.ceil((Date.parse(after) - Date.now()) / 1000);
  if (!Number.isFinite(seconds) || seconds < 1) return "Try again now.";
  const at = new Date(Date.now() + seconds * 1000).toLocaleTimeString();
  return `Try again in ${seconds} second${seconds === 1 ? "" : "s"}, at ${at}.`;
}
