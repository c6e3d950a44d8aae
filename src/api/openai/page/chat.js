// The playground: columns, each a conversation with a model; a message goes to all of them.
import { Refusal, stream } from "./api.js";
import { MessageView } from "./answer.js";
import { announce, by, make } from "./dom.js";
import * as history from "./history.js";

const MOST_COLUMNS = 4;
const STARTERS = ["Tell me of the sea.", "Write a short letter to an old friend.", "The house at the end of the road"];

// What the API takes of a message.
function plain(message) {
  const out = { role: message.role, content: message.content ?? "" };
  if (message.tool_calls?.length) out.tool_calls = message.tool_calls;
  if (message.tool_call_id) out.tool_call_id = message.tool_call_id;
  return out;
}

// Several pieces of calls -> whole ones.
function addCalls(calls, deltas) {
  for (const delta of deltas) {
    const call = (calls[delta.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    if (delta.id) call.id = delta.id;
    if (delta.function?.name) call.function.name = delta.function.name;
    call.function.arguments += delta.function?.arguments ?? "";
  }
}

// Logprobs of /v1/completions, as those of chats.
function* tokensOf(choice) {
  const found = choice.logprobs;
  if (!found) return;
  if (found.content) { yield* found.content; return; }
  for (let i = 0; i < (found.tokens?.length ?? 0); ++i) {
    const top = Object.entries(found.top_logprobs?.[i] ?? {}).map(([token, logprob]) => ({ token, logprob }));
    yield { token: found.tokens[i], logprob: found.token_logprobs[i] ?? 0, top_logprobs: top };
  }
}

class Column {
  constructor(playground, models) {
    this.playground = playground;
    this.messages = [];
    this.control = null;
    this.element = by("column-template").content.firstElementChild.cloneNode(true);
    this.select = this.element.querySelector("select");
    this.box = this.element.querySelector(".messages");
    this.removeButton = this.element.querySelector(".remove");
    this.removeButton.addEventListener("click", () => playground.remove(this));
    this.select.addEventListener("change", () => playground.keep());
    this.setModels(models);
    this.draw();
  }
  setModels(models) {
    const chosen = this.select.value;
    this.select.replaceChildren(...models.map((name) => new Option(name, name)));
    if (!models.length) this.select.append(new Option("no model", ""));
    if (models.includes(chosen)) this.select.value = chosen;
  }
  get model() { return this.select.value; }
  set model(name) {
    if (![...this.select.options].some((o) => o.value === name)) this.select.append(new Option(`${name} (not served now)`, name));
    this.select.value = name;
  }
  get running() { return this.control !== null; }

  draw() {
    this.box.replaceChildren();
    if (!this.messages.length) {
      this.box.append(make("div", { class: "empty-chat" }, make("strong", {}, "Ask the model something"),
        "Your conversation stays in this browser.",
        make("div", { class: "starters" }, ...STARTERS.map((text) =>
          make("button", { type: "button", onclick: () => this.playground.send(text) }, text)))));
    }
    for (const message of this.messages) this.show(message);
  }
  show(message) {
    this.box.querySelector(".empty-chat")?.remove();
    const who = { user: "You", assistant: this.model, tool: "Result of the function" }[message.role] ?? message.role;
    const actions = message.role === "assistant"
      ? { again: () => this.again(message), sendResults: (results) => this.answerCalls(results) } : {};
    const view = new MessageView(message, who, actions);
    this.box.append(view.element);
    this.box.scrollTop = this.box.scrollHeight;
    return view;
  }
  add(message) {
    this.messages.push(message);
    return this.show(message);
  }
  again(message) {
    if (this.running) return;
    this.messages.splice(this.messages.indexOf(message));
    this.draw();
    this.ask();
  }
  answerCalls(results) {
    for (const { id, content } of results) this.add({ role: "tool", tool_call_id: id, content });
    this.ask();
  }

  async ask() {
    const request = this.playground.settings.request(this.messages.filter((m) => !m.error || m.content).map(plain));
    if (!request) return this.playground.showSettings();
    // What is kept while it still comes was stopped, if nothing follows.
    const meta = { began: performance.now(), finish: "stopped" };
    const message = { role: "assistant", content: "", reasoning: "", tool_calls: [], meta };
    this.messages.push(message);
    this.control = new AbortController();
    message.meta = undefined;  // until it is finished
    const view = this.show(message);
    message.meta = meta;
    view.begin();
    this.playground.changed();
    try {
      await stream(request.path, { model: this.model, ...request.body }, this.control.signal, (event) => this.take(event, message, view));
    } catch (error) {
      if (error.name !== "AbortError") {
        message.error = this.explain(error);
        delete meta.finish;
      }
      if (error instanceof Refusal && error.status === 401) this.playground.askForKey(error.message);
    }
    meta.ended = performance.now();
    this.control = null;
    if (message.tool_calls.length) view.showCalls();
    view.finish();
    this.box.scrollTop = this.box.scrollHeight;
    announce(message.error ? `Error: ${message.error}` : `The answer of ${this.model} is there.`);
    this.playground.changed();
    this.playground.keep();
  }
  explain(error) {
    if (!(error instanceof Refusal)) return `The server cannot be reached: ${error.message}`;
    return error.status === 403 ? `${error.message} (enter another key to use models)` : error.message;
  }
  take(event, message, view) {
    if (event.usage) message.meta.tokens = event.usage.completion_tokens;
    const choice = event.choices?.[0];
    if (!choice) return;
    const follow = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    const delta = choice.delta ?? { content: choice.text };
    const reasoning = delta.reasoning_content ?? delta.reasoning;
    if (delta.content || reasoning || delta.tool_calls) message.meta.first ??= performance.now();
    if (reasoning) { message.reasoning += reasoning; view.addReasoning(reasoning); }
    if (delta.content) { message.content += delta.content; view.addText(delta.content); }
    if (delta.tool_calls) addCalls(message.tool_calls, delta.tool_calls);
    for (const token of tokensOf(choice)) view.addToken(token);
    if (choice.finish_reason) message.meta.finish = choice.finish_reason;
    if (follow) this.box.scrollTop = this.box.scrollHeight;
  }
}

export class Playground {
  constructor(settings, askForKey) {
    this.settings = settings;
    this.askForKey = askForKey;
    this.models = [];
    this.columns = [];
    this.id = crypto.randomUUID?.() ?? String(Math.random());
    by("composer").addEventListener("submit", (event) => { event.preventDefault(); this.send(by("prompt").value); });
    by("prompt").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send(by("prompt").value);
    });
    by("prompt").addEventListener("input", () => this.fit());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) this.stop();
    });
    by("stop").addEventListener("click", () => this.stop());
    by("new-chat").addEventListener("click", () => this.begin());
    by("add-model").addEventListener("click", () => this.addColumn());
    by("open-history").addEventListener("click", () => {
      history.showHistory((chat) => this.open(chat), (id) => { if (id === null || id === this.id) this.clear(); });
      by("history-dialog").showModal();
    });
    this.addColumn();
  }
  fit() {
    const box = by("prompt");
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight + 2, innerHeight * 0.4)}px`;
  }
  setModels(models) {
    this.models = models;
    for (const column of this.columns) column.setModels(models);
    this.changed();
  }
  showSettings() {
    by("settings").hidden = false;
    by("toggle-settings").setAttribute("aria-expanded", "true");
    by("settings").querySelector("[aria-invalid]")?.focus();
  }
  addColumn(model) {
    const column = new Column(this, this.models);
    const used = this.columns.map((c) => c.model);
    column.model = model ?? this.models.find((name) => !used.includes(name)) ?? column.model;
    this.columns.push(column);
    by("columns").append(column.element);
    this.changed();
    return column;
  }
  remove(column) {
    column.control?.abort();
    column.element.remove();
    this.columns = this.columns.filter((c) => c !== column);
    this.changed();
    this.keep();
  }
  begin() {
    this.keep();
    this.clear();
  }
  clear() {
    this.stop();
    this.id = crypto.randomUUID?.() ?? String(Math.random());
    for (const column of this.columns) { column.messages = []; column.draw(); }
    by("prompt").focus();
  }
  open(chat) {
    if (chat.id === this.id) return by("prompt").focus();
    this.keep();
    this.stop();
    while (this.columns.length) this.columns.pop().element.remove();
    this.id = chat.id;
    for (const { model, messages } of chat.columns.slice(0, MOST_COLUMNS)) {
      const column = this.addColumn(model);
      column.messages = messages;
      column.draw();
    }
    by("prompt").focus();
  }
  keep() {
    history.keep(this.id, this.columns.map((c) => ({ model: c.model, messages: c.messages })));
  }
  changed() {
    const running = this.columns.some((c) => c.running);
    by("stop").hidden = !running;
    by("send").hidden = running;
    by("add-model").disabled = this.columns.length >= MOST_COLUMNS;
    for (const column of this.columns) column.removeButton.hidden = this.columns.length < 2;
  }
  send(text) {
    if (!text.trim() || this.columns.some((c) => c.running)) return;
    if (!this.settings.request([])) return this.showSettings();
    by("prompt").value = "";
    this.fit();
    for (const column of this.columns) {
      column.add({ role: "user", content: text });
      column.ask();
    }
    this.keep();
    by("prompt").focus();
  }
  stop() {
    for (const column of this.columns) column.control?.abort();
  }
  // {path, body} of each model, as the next message would be or the last one was; none where a setting is wrong.
  lastRequests() {
    return this.columns.map((column) => this.lastRequest(column)).filter(Boolean);
  }
  lastRequest(column) {
    const asked = column.messages.findLastIndex((m) => m.role !== "assistant");
    const messages = column.messages.slice(0, asked + 1).filter((m) => !m.error || m.content).map(plain);
    const draft = by("prompt").value;
    if (draft.trim() || !messages.length) {
      messages.splice(0, Infinity, ...column.messages.filter((m) => !m.error || m.content).map(plain), { role: "user", content: draft || "Hello" });
    }
    const request = this.settings.request(messages);
    return request && { path: request.path, body: { model: column.model, ...request.body } };
  }
}
