// Requests, [{path, body}], as a program. The key is never in it: it is read from the environment.
import { key } from "./api.js";

const quoteShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function python(value, indent) {
  const pad = " ".repeat(indent);
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) {
    return value.length ? `[\n${value.map((v) => `${pad}    ${python(v, indent + 4)},\n`).join("")}${pad}]` : "[]";
  }
  if (typeof value === "object") {
    const rows = Object.entries(value).map(([k, v]) => `${pad}    ${JSON.stringify(k)}: ${python(v, indent + 4)},\n`);
    return rows.length ? `{\n${rows.join("")}${pad}}` : "{}";
  }
  return JSON.stringify(value);  // JSON's strings and numbers are Python's
}

function curl({ path, body }) {
  const url = new URL(path, document.baseURI).href;
  const lines = [`curl ${body.stream ? "-N " : ""}${quoteShell(url)}`, "-H 'Content-Type: application/json'"];
  if (key()) lines.push('-H "Authorization: Bearer $PENSTOCK_API_KEY"');
  lines.push(`-d ${quoteShell(JSON.stringify(body, null, 2))}`);
  return `${lines.join(" \\\n  ")}\n`;
}

export const asCurl = (requests) => requests.map(curl).join("\n");

// What the client has no argument of its own for goes into extra_body.
const OWN = new Set(["model", "messages", "prompt", "temperature", "top_p", "presence_penalty", "frequency_penalty",
  "max_tokens", "seed", "stop", "response_format", "tools", "tool_choice", "logprobs", "top_logprobs", "stream",
  "stream_options"]);

function call({ path, body }) {
  const given = Object.fromEntries(Object.entries(body).filter(([k]) => OWN.has(k)));
  const extra = Object.fromEntries(Object.entries(body).filter(([k]) => !OWN.has(k)));
  if (Object.keys(extra).length) given.extra_body = extra;
  const chat = path.endsWith("chat/completions");
  const rows = Object.entries(given).map(([k, v]) => `    ${k}=${python(v, 4)},\n`).join("");
  return `
stream = client.${chat ? "chat.completions" : "completions"}.create(
${rows})
for chunk in stream:
    if chunk.choices:
        print(${chat ? 'chunk.choices[0].delta.content or ""' : "chunk.choices[0].text"}, end="", flush=True)
print()
`;
}

export function asPython(requests) {
  const base = new URL("v1", document.baseURI).href;
  return `${key() ? "import os\n\n" : ""}from openai import OpenAI  # pip install openai

client = OpenAI(base_url=${JSON.stringify(base)}, api_key=${key() ? 'os.environ["PENSTOCK_API_KEY"]' : '"none"'})
${requests.map(call).join("").trimStart()}`;
}
