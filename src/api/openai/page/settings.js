// The form of settings, kept in this browser, and the request that it makes.
import { by } from "./dom.js";

const KEPT = "penstock.settings";
const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "max_tokens", "seed"];
const EXAMPLES = {
  schema: {
    type: "object",
    properties: { place: { type: "string", maxLength: 40 }, rating: { type: "integer", minimum: 1, maximum: 5 } },
    required: ["place", "rating"], additionalProperties: false,
  },
  tools: [{
    type: "function",
    function: {
      name: "get_weather", description: "The weather of a town",
      parameters: { type: "object", properties: { town: { type: "string" } }, required: ["town"] },
    },
  }],
};

export class Settings {
  constructor() {
    this.form = by("settings-form");
    try {
      for (const [name, value] of Object.entries(JSON.parse(localStorage.getItem(KEPT) ?? "{}"))) {
        const field = this.form.elements[name];
        if (!field) continue;
        if (field.type === "checkbox") field.checked = value === true;
        else field.value = value;
      }
    } catch { /* nothing kept, or not ours */ }
    this.form.addEventListener("input", () => this.changed());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("reset", () => setTimeout(() => this.changed()));
    for (const button of this.form.querySelectorAll("[data-example]")) {
      button.addEventListener("click", () => {
        this.form.elements[button.dataset.example].value = JSON.stringify(EXAMPLES[button.dataset.example], null, 2);
        this.changed();
      });
    }
    this.changed();
  }

  get mode() { return this.form.elements.mode.value; }

  changed() {
    const values = {};
    for (const field of this.form.elements) {
      if (field.name) values[field.name] = field.type === "checkbox" ? field.checked : field.value;
    }
    try { localStorage.setItem(KEPT, JSON.stringify(values)); } catch { /* no room: they last as long as the page */ }
    for (const element of this.form.querySelectorAll("[data-mode]")) element.hidden = element.dataset.mode !== this.mode;
    this.json("schema");
    this.json("tools");
  }

  // The field's value; undefined where it is empty, null where it is wrong (and it says so).
  json(name) {
    const field = this.form.elements[name];
    const error = by(`error-${name}`);
    let value;
    let wrong = "";
    if (field.value.trim()) {
      try {
        value = JSON.parse(field.value);
        if (name === "tools" && !Array.isArray(value)) wrong = "Expected an array of functions.";
        if (name === "schema" && (typeof value !== "object" || value === null || Array.isArray(value))) wrong = "Expected an object.";
      } catch (e) {
        wrong = `This is not JSON: ${e.message}`;
      }
    }
    error.textContent = wrong;
    if (wrong) {
      field.setAttribute("aria-invalid", "true");  // present but empty means false
      field.setAttribute("aria-describedby", error.id);
    } else {
      field.removeAttribute("aria-invalid");
      field.removeAttribute("aria-describedby");
    }
    return wrong ? null : value;
  }

  // {path, body} without the model; null where a field is wrong.
  request(messages) {
    const f = this.form.elements;
    const chat = this.mode === "chat";
    const schema = this.json("schema");
    const tools = chat ? this.json("tools") : undefined;
    if (schema === null || tools === null) return null;
    const body = {};
    if (chat) body.messages = f.system.value.trim() ? [{ role: "system", content: f.system.value }, ...messages] : messages;
    else body.prompt = messages.map((m) => m.content).join("");
    for (const name of NUMBERS) {
      const value = f[name].value.trim() === "" ? NaN : Number(f[name].value);
      if (Number.isFinite(value)) body[name] = value;
    }
    const stops = f.stop.value.split("|").filter(Boolean);
    if (stops.length) body.stop = stops;
    if (schema) body.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
    if (tools && tools.length) { body.tools = tools; body.tool_choice = f.tool_choice.value; }
    if (f.logprobs.checked) {
      if (chat) { body.logprobs = true; body.top_logprobs = 5; } else body.logprobs = 5;
    }
    body.stream = true;
    body.stream_options = { include_usage: true };
    return { path: chat ? "v1/chat/completions" : "v1/completions", body };
  }
}
