// Requests to the server that this page came from, with the key that its user gave.

const KEY = "penstock.key";

export const key = () => sessionStorage.getItem(KEY) ?? "";
export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function withKey(headers = {}) {
  return key() ? { ...headers, Authorization: `Bearer ${key()}` } : headers;
}

async function refusalOf(answer) {
  let message = `HTTP ${answer.status}`;
  try {
    message = (await answer.json()).error?.message ?? message;
  } catch { /* no JSON: a proxy's page */ }
  return new Refusal(answer.status, message);
}

export async function get(path) {
  const answer = await fetch(path, { headers: withKey(), cache: "no-store" });
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

// Without a key, and with the body of a refusal.
export async function readiness() {
  const answer = await fetch("ready", { cache: "no-store" });
  let body = {};
  try { body = await answer.json(); } catch { /* a proxy's page */ }
  return { ok: answer.ok, status: answer.status, body };
}

// Calls `onEvent` with each event of a stream.
export async function stream(path, body, signal, onEvent) {
  const answer = await fetch(path, {
    method: "POST", headers: withKey({ "Content-Type": "application/json" }),
    body: JSON.stringify(body), signal,
  });
  if (!answer.ok) throw await refusalOf(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let ended = false;
  while (true) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") { ended = true; continue; }
      const event = JSON.parse(data);
      if (event.error) throw new Refusal(event.error.code ?? 500, event.error.message);
      onEvent(event);
    }
  }
  if (!ended) throw new Refusal(0, "the connection ended before the answer did");
}
