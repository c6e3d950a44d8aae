// The view of what the server does: figures from /metrics, models, the last errors.
import { get, key } from "./api.js";
import { Tile } from "./chart.js";
import { amount, by, bytes, duration, make } from "./dom.js";
import { Page, quantile, rate } from "./metrics.js";

const EVERY = 2000;      // milliseconds between two pages
const SLOTS = 150;       // points of a chart: five minutes
const RATE_OVER = 5;     // pages that a rate looks back
const LATENCY_OVER = 30; // pages that a quantile looks back

const share = (v) => (Number.isFinite(v) ? `${(v * 100).toFixed(v < 0.1 ? 1 : 0)} %` : "–");

export class Status {
  constructor(askForKey) {
    this.askForKey = askForKey;
    this.pages = [];
    this.points = new Map();  // tile -> arrays of values
    this.refused = "";        // the key that was refused, so that it is not tried again
    this.isRefused = false;
    this.models = [];
    this.phase = "";
    this.timer = null;
    this.tiles = {
      running: new Tile("Requests running", { format: amount }),
      waiting: new Tile("Requests waiting", { format: amount }),
      kv: new Tile("KV cache in use", { format: share, top: 1 }),
      output: new Tile("Tokens generated", { unit: "tokens/s", format: amount }),
      input: new Tile("Prompt tokens", { unit: "tokens/s", format: amount }),
      ttft: new Tile("Time to first token", { format: duration }),
      itl: new Tile("Between tokens", { format: duration }),
      hits: new Tile("Prefix cache hits", { format: share, top: 1 }),
    };
    by("tiles").append(...Object.values(this.tiles).map((tile) => tile.element));
    by("status-model").addEventListener("change", () => this.recount());
  }

  setModels(models) { this.models = models; }
  setPhase(phase) { this.phase = phase; }

  // Whether the view is looked at.
  run(on) {
    clearTimeout(this.timer);
    this.timer = null;
    if (on) this.tick();
  }

  async tick() {
    if (!document.hidden) await Promise.all([this.readMetrics(), this.readErrors()]);
    clearTimeout(this.timer);
    if (!by("view-status").hidden) this.timer = setTimeout(() => this.tick(), EVERY);
  }

  // A key that may not is not tried again, so that the server does not count it every other second.
  mayTry() { return !this.isRefused || this.refused !== key(); }

  async readMetrics() {
    if (!this.mayTry()) return;
    try {
      const text = await (await get("metrics")).text();
      this.isRefused = false;
      this.notice("");
      by("status-body").hidden = false;
      const page = new Page(text, performance.now());
      const started = page.sum("process_start_time_seconds");
      if (this.pages.length && this.pages.at(-1).sum("process_start_time_seconds") !== started) this.forget();
      this.pages.push(page);
      if (this.pages.length > SLOTS) this.pages.shift();
      this.addPoint(this.pages.length - 1);
      this.draw();
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        this.isRefused = true;
        this.refused = key();
        by("status-body").hidden = true;
        this.notice(error.status === 401
          ? "The server shows its figures to known callers only." 
          : "This key may not read the server's figures: it needs the permission metrics.read.", true);
      } else {
        this.notice("The server does not answer. Trying again.");
      }
    }
  }

  notice(text, withKey = false) {
    const box = by("status-notice");
    if (box.dataset.text === text) return;
    box.dataset.text = text;
    box.hidden = !text;
    box.replaceChildren(text);
    if (withKey) box.append(make("button", { type: "button", onclick: () => this.askForKey() }, "Enter a key"));
  }

  forget() {
    this.pages = [];
    this.points.clear();
  }
  recount() {
    this.points.clear();
    this.pages.forEach((_, i) => this.addPoint(i));
    if (this.pages.length) this.draw();
  }

  figures(index, model) {
    const page = this.pages[index];
    const near = this.pages[Math.max(0, index - RATE_OVER)];
    const far = this.pages[Math.max(0, index - LATENCY_OVER)];
    const before = index > 0;
    const queries = rate(before && far, page, "vllm:prefix_cache_queries_total", model);
    return {
      running: page.sum("vllm:num_requests_running", model),
      waiting: page.sum("vllm:num_requests_waiting", model),
      kv: page.max("vllm:kv_cache_usage_perc", model),
      output: rate(before && near, page, "vllm:generation_tokens_total", model),
      input: rate(before && near, page, "vllm:prompt_tokens_total", model),
      ttft: quantile(before && far, page, "vllm:time_to_first_token_seconds", 0.5, model),
      ttft95: quantile(before && far, page, "vllm:time_to_first_token_seconds", 0.95, model),
      itl: quantile(before && far, page, "penstock_inter_token_latency_seconds", 0.5, model),
      itl95: quantile(before && far, page, "penstock_inter_token_latency_seconds", 0.95, model),
      hits: queries > 0 ? rate(far, page, "vllm:prefix_cache_hits_total", model) / queries : NaN,
    };
  }

  addPoint(index) {
    for (const [name, value] of Object.entries(this.figures(index, by("status-model").value))) {
      const values = this.points.get(name) ?? [];
      values.push(value);
      if (values.length > SLOTS) values.shift();
      this.points.set(name, values);
    }
  }

  draw() {
    const page = this.pages.at(-1);
    const model = by("status-model").value;
    const now = (name) => this.points.get(name).at(-1);
    const seconds = (SLOTS * EVERY) / 1000;
    const minute = Number.isFinite(now("ttft")) ? "" : "no request in the last minute";
    const show = (name, text, more, ...also) => this.tiles[name].show(text, more,
      [this.points.get(name), ...also.map((n) => this.points.get(n))], SLOTS, seconds);
    show("running", amount(now("running")), `of ${amount(page.sum("penstock_max_concurrency", model))} at once`);
    show("waiting", amount(now("waiting")), `${amount(page.sum("vllm:num_preemptions_total", model))} preempted since the start`);
    show("kv", share(now("kv")), this.blocks(page, model));
    show("output", amount(now("output")), `${amount(page.sum("vllm:generation_tokens_total", model))} since the start`);
    show("input", amount(now("input")), `${amount(page.sum("vllm:prompt_tokens_total", model))} since the start`);
    show("ttft", duration(now("ttft")), minute || `median; 95 % within ${duration(now("ttft95"))}`, "ttft95");
    show("itl", duration(now("itl")), minute || `median; 95 % within ${duration(now("itl95"))}`, "itl95");
    show("hits", share(now("hits")), Number.isFinite(now("hits")) ? "of prompt tokens, last minute" : "no prompt in the last minute");
    this.drawModels(page);
    this.drawFacts(page);
  }

  blocks(page, model) {
    const all = page.sum("penstock_kv_blocks", model);
    const cached = page.sum("penstock_kv_blocks", model, { state: "cached" });
    return all ? `${share(cached / all)} hold prefixes to reuse` : "";
  }

  drawModels(page) {
    const names = [...new Set(page.series("vllm:num_requests_running").map((s) => s.labels.model_name))];
    const select = by("status-model");
    if ([...select.options].slice(1).map((o) => o.value).join("\n") !== names.join("\n")) {
      const chosen = select.value;
      select.replaceChildren(new Option("All models", ""), ...names.map((name) => new Option(name, name)));
      select.value = names.includes(chosen) ? chosen : "";
    }
    const near = this.pages[Math.max(0, this.pages.length - 1 - RATE_OVER)];
    const rows = names.map((name) => {
      const about = this.models.find((m) => m.id === name);
      const cells = [about ? amount(about.max_model_len) : "–", amount(page.sum("vllm:num_requests_running", name)),
        amount(page.sum("vllm:num_requests_waiting", name)), share(page.max("vllm:kv_cache_usage_perc", name)),
        amount(rate(this.pages.length > 1 && near, page, "vllm:generation_tokens_total", name))];
      return make("tr", {}, make("td", {}, name), make("td", {}, this.phase), ...cells.map((text) => make("td", {}, text)));
    });
    if (!rows.length) rows.push(make("tr", {}, make("td", { colspan: 7 }, "No model is loaded yet.")));
    by("models-table").tBodies[0].replaceChildren(...rows);
  }

  drawFacts(page) {
    const started = page.sum("process_start_time_seconds");
    const answered = page.sum("penstock_requests_total");
    const failed = page.series("penstock_requests_total").filter((s) => Number(s.labels.code) >= 400)
      .reduce((sum, s) => sum + s.value, 0);
    const reload = page.series("penstock_config_last_reload_success")[0]?.value;
    const facts = {
      Version: page.label("penstock_build_info", "version"),
      Configuration: page.label("penstock_config_hash_info", "hash") || "–",
      "Last reload": reload === undefined ? "–" : reload === 1 ? "taken" : "refused: the one before is in force",
      "Up for": duration(Date.now() / 1000 - started),
      Memory: bytes(page.sum("process_resident_memory_bytes")),
      "Open files": `${amount(page.sum("process_open_fds"))} of ${amount(page.sum("process_max_fds"))}`,
      Answers: `${amount(answered)}, ${amount(failed)} of them errors`,
      "Callers turned away": amount(page.sum("penstock_auth_failures_total")),
    };
    by("facts").replaceChildren(...Object.entries(facts).map(([name, text]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, text))));
  }

  async readErrors() {
    if (!this.mayTryErrors()) return;
    const box = by("errors");
    const say = (text) => box.replaceChildren(make("p", { class: "none" }, text));
    try {
      const { data } = await (await get("errors")).json();
      this.errorsRefused = null;
      if (!data.length) return say("No request has failed since the start.");
      box.replaceChildren(...data.slice(0, 20).map((error) => make("div", { class: "error-row" },
        make("time", { datetime: new Date(error.time).toISOString() }, new Date(error.time).toLocaleTimeString()),
        make("span", { class: "code-number" }, String(error.code)),
        make("div", {}, make("div", { class: "message-text" }, error.message || "no message"),
          make("div", { class: "small" }, [error.model, error.operation, error.request_id].filter(Boolean).join(" · "))))));
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        this.errorsRefused = { key: key() };
        say(error.status === 401 ? "Errors are shown to callers with a key." : "This key may not read them: it needs the permission metrics.read.");
      } else if (error.status === 503) {
        say("The server is not ready yet.");
      }
    }
  }
  mayTryErrors() { return !this.errorsRefused || this.errorsRefused.key !== key(); }
}
