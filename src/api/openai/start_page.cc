// GET /: a page to try the served models from a browser; it holds no answer, key or name itself.
#include "api/openai/routes.h"

namespace penstock {
namespace {

// Nothing is loaded from elsewhere, and nothing but this server may be asked.
constexpr const char* kPolicy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

constexpr const char* kPage = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Penstock</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em; }
textarea { width: 100%; box-sizing: border-box; font: inherit; }
pre { white-space: pre-wrap; min-height: 6em; border: 1px solid #999; padding: .5em; }
label { margin-right: 1em; } input { font: inherit; }
</style></head><body>
<h1>Penstock</h1>
<p id="status">Asking what is served.</p>
<p><label>Model <select id="model"></select></label>
<label>Tokens <input id="tokens" type="number" min="1" value="64" size="6"></label>
<label>Key <input id="key" type="password" autocomplete="off" size="12"></label></p>
<textarea id="prompt" rows="4">Tell me of the sea.</textarea>
<p><button id="chat">Chat</button> <button id="complete">Complete</button>
<button id="stop" disabled>Stop</button></p>
<pre id="answer"></pre>
<p>OpenAI: <code>/v1/chat/completions</code>, <code>/v1/completions</code>, <code>/v1/responses</code>,
<code>/v1/embeddings</code>; Anthropic: <code>/v1/messages</code>; all of it in
<a href="openapi.json">openapi.json</a>.</p>
<script>
const by = id => document.getElementById(id);
const headers = () => ({"Content-Type": "application/json",
  ...(by("key").value ? {"Authorization": "Bearer " + by("key").value} : {})});
async function list() {
  const answer = await fetch("v1/models", {headers: headers()});
  if (!answer.ok) { by("status").textContent = "The list of models needs a key."; return; }
  const names = (await answer.json()).data.map(model => model.id);
  by("model").replaceChildren(...names.map(name => new Option(name)));
  by("status").textContent = names.length + " model name(s) served.";
}
let running = null;
async function ask(path, body) {
  if (running) running.abort();
  const control = running = new AbortController();
  by("answer").textContent = ""; by("stop").disabled = false;
  try {
    const answer = await fetch(path, {method: "POST", headers: headers(), signal: control.signal,
      body: JSON.stringify({model: by("model").value, max_tokens: Number(by("tokens").value),
        stream: true, ...body})});
    if (!answer.ok) { by("answer").textContent = (await answer.json()).error.message; return; }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    while (true) {
      const {value, done} = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
        const event = JSON.parse(line.slice(6));
        if (event.error) { by("answer").textContent += "\n" + event.error.message; continue; }
        const choice = event.choices[0];
        if (choice) by("answer").textContent += (choice.delta ? choice.delta.content : choice.text) || "";
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") by("answer").textContent += "\n" + error.message;
  } finally {
    if (running === control) { running = null; by("stop").disabled = true; }
  }
}
by("chat").onclick = () => ask("v1/chat/completions",
  {messages: [{role: "user", content: by("prompt").value}]});
by("complete").onclick = () => ask("v1/completions", {prompt: by("prompt").value});
by("stop").onclick = () => { if (running) running.abort(); };
by("key").onchange = list;
list();
</script></body></html>
)";

}  // namespace

void AddStartPage(Router& router) {
  router.Add("GET", "/", RouteAccess::NeedsUnlessLocal(Permission::kReadMetrics),
             [](std::shared_ptr<HttpExchange> exchange) {
               HttpResponse response;
               response.content_type = "text/html; charset=utf-8";
               response.headers = {{"Content-Security-Policy", kPolicy},
                                   {"X-Content-Type-Options", "nosniff"},
                                   {"Referrer-Policy", "no-referrer"}};
               response.body = kPage;
               exchange->Respond(std::move(response));
             });
}

}  // namespace penstock
