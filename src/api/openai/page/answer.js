// How messages look: text, reasoning, calls of functions, tokens with their odds. All of it is text.
import { copyText, duration, make } from "./dom.js";

const LIKELY = [0.9, 0.6, 0.3, 0.1];
const WORDS = ["90 % and more", "60 %", "30 %", "10 %", "less"];

const level = (logprob) => {
  const p = Math.exp(logprob);
  const at = LIKELY.findIndex((bound) => p >= bound);
  return at < 0 ? LIKELY.length : at;
};
const percent = (logprob) => {
  const p = Math.exp(logprob) * 100;
  return `${p >= 99.95 ? "100" : p >= 10 ? p.toFixed(1) : p >= 0.01 ? p.toFixed(2) : "< 0.01"} %`;
};

function legend() {
  return make("p", { class: "legend" }, "Probability:",
    ...WORDS.map((word, i) => make("span", {}, make("i", { class: `p${i}` }), word)));
}

// Tokens as coloured text: one stop of the Tab key, arrows go from token to token.
export class Tokens {
  constructor() {
    this.all = [];
    this.decoder = new TextDecoder();
    this.chosen = -1;
    this.box = make("div", {
      class: "tokens", tabindex: "0", role: "group",
      "aria-label": "Answer as tokens. Left and right arrow keys tell how likely each token was.",
    });
    this.odds = make("div", { class: "odds", role: "status" });
    this.element = make("div", {}, this.box, this.odds, legend());
    this.box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.choose(Math.min(Math.max(this.chosen + step, 0), this.all.length - 1));
    });
    this.box.addEventListener("click", (event) => {
      const at = [...this.box.children].indexOf(event.target);
      if (at >= 0) this.choose(at);
    });
  }
  // A token as the API tells it: {token, logprob, bytes, top_logprobs}.
  add(token) {
    const text = token.bytes ? this.decoder.decode(Uint8Array.from(token.bytes), { stream: true }) : token.token;
    this.all.push(token);
    this.box.append(make("span", { class: `p${level(token.logprob)}` }, text));
  }
  choose(at) {
    if (at < 0) return;
    this.box.children[this.chosen]?.classList.remove("chosen");
    this.chosen = at;
    this.box.children[at].classList.add("chosen");
    const { token, logprob, top_logprobs: top = [] } = this.all[at];
    const rows = top.some((t) => t.token === token) ? top : [{ token, logprob }, ...top];
    this.odds.replaceChildren(`Token ${at + 1} of ${this.all.length}: ${JSON.stringify(token)}, ${percent(logprob)}`,
      make("table", {}, make("tbody", {}, ...rows.map((row) =>
        make("tr", {}, make("td", {}, JSON.stringify(row.token)), make("td", {}, percent(row.logprob)))))));
  }
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

// A message on the page. `actions`: {again, sendResults}, what its buttons do.
export class MessageView {
  constructor(message, who, actions = {}) {
    this.message = message;
    this.actions = actions;
    this.text = document.createTextNode(message.role === "tool" ? pretty(message.content) : message.content ?? "");
    this.box = make("div", { class: "text" }, this.text);
    this.body = make("div", {}, this.box);
    this.element = make("div", { class: `message ${message.role}` }, make("p", { class: "who" }, who), this.body);
    this.tokens = null;
    if (message.reasoning) this.addReasoning("", message.reasoning);
    if (message.tool_calls?.length) this.showCalls();
    if (message.meta || message.error) this.finish();
  }
  begin() {
    this.cursor = make("span", { class: "cursor", "aria-hidden": "true" });
    this.box.append(this.cursor);
    this.element.setAttribute("aria-busy", "true");
  }
  addText(text) { this.text.appendData(text); }
  addReasoning(text, whole = "") {
    if (!this.reasoning) {
      this.reasoning = document.createTextNode(whole);
      this.body.prepend(make("details", { open: !whole }, make("summary", {}, "Reasoning"), make("div", { class: "text" }, this.reasoning)));
    }
    this.reasoning.appendData(text);
  }
  addToken(token) {
    if (!this.tokens) {
      this.tokens = new Tokens();
      this.box.after(this.tokens.element);
    }
    this.tokens.add(token);
    // The tokens are the text, unless some of it went elsewhere.
    this.box.hidden = !this.reasoning && !this.message.tool_calls?.length;
  }
  showCalls() {
    this.calls?.remove();
    this.calls = make("div", {}, ...this.message.tool_calls.map((call) => {
      const box = make("div", { class: "call" }, make("div", { class: "name" }, call.function.name), make("pre", {}, pretty(call.function.arguments)));
      if (this.actions.sendResults && !this.message.answered) {
        box.append(make("label", {}, "Result", make("textarea", { class: "code", rows: 2, "data-call": call.id })));
      }
      return box;
    }));
    if (this.actions.sendResults && !this.message.answered) {
      const send = make("button", { type: "button" }, "Send result");
      send.addEventListener("click", () => {
        const results = [...this.calls.querySelectorAll("textarea")].map((t) => ({ id: t.dataset.call, content: t.value }));
        this.message.answered = true;
        this.showCalls();
        this.actions.sendResults(results);
      });
      this.calls.append(make("div", { class: "dialog-row" }, send));
    }
    this.body.append(this.calls);
  }
  finish() {
    this.cursor?.remove();
    this.element.removeAttribute("aria-busy");
    const { meta = {}, error, role } = this.message;
    if (error) this.element.append(make("p", { class: "failed", role: "alert" }, error));
    if (role !== "assistant") return;
    const { content, tool_calls: calls } = this.message;
    if (!content && !calls?.length && !error) this.box.after(make("p", { class: "nothing" }, "The model said nothing."));
    const seconds = (meta.ended - meta.began) / 1000;
    const facts = [];
    if (meta.tokens !== undefined) facts.push(`${meta.tokens} tokens`);
    if (meta.first) facts.push(`first after ${duration((meta.first - meta.began) / 1000)}`);
    const streamed = (meta.ended - meta.first) / 1000;
    // Of an answer that came in one piece the time says nothing.
    if (meta.tokens > 1 && streamed >= 0.05) facts.push(`${((meta.tokens - 1) / streamed).toFixed(0)} tokens/s`);
    else if (meta.tokens === undefined && seconds > 0) facts.push(`stopped after ${duration(seconds)}`);
    if (meta.finish) facts.push({ length: "cut at the most tokens", stop: "complete", tool_calls: "calls a function" }[meta.finish] ?? meta.finish);
    const copy = make("button", { type: "button", class: "quiet" }, "Copy");
    copy.addEventListener("click", async () => {
      copy.textContent = (await copyText(this.message.content ?? "")) ? "Copied" : "Not copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
    this.element.append(make("div", { class: "meta" }, ...facts.map((f) => make("span", {}, f)), copy,
      this.actions.again ? make("button", { type: "button", class: "quiet", onclick: this.actions.again }, "Ask again") : null));
  }
}
