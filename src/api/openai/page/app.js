// Starts the page: views, theme, key, and what the server's state is.
import { get, key, readiness, setKey } from "./api.js";
import { Playground } from "./chat.js";
import { by, bytes, copyText, duration, make } from "./dom.js";
import { Settings } from "./settings.js";
import { asCurl, asPython } from "./snippets.js";
import { Status } from "./status.js";

const THEMES = ["system", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");

function showTheme() {
  const theme = localStorage.getItem("penstock.theme") ?? "system";
  document.documentElement.dataset.theme = theme === "system" ? (dark.matches ? "dark" : "light") : theme;
  by("theme-button").textContent = `Theme: ${theme}`;
}
by("theme-button").addEventListener("click", () => {
  const theme = localStorage.getItem("penstock.theme") ?? "system";
  localStorage.setItem("penstock.theme", THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
  showTheme();
});
dark.addEventListener("change", showTheme);
showTheme();

for (const dialog of document.querySelectorAll("dialog")) {
  for (const button of dialog.querySelectorAll(".close")) button.addEventListener("click", () => dialog.close());
}

function askForKey(why = "") {
  const dialog = by("key-dialog");
  by("key-error").textContent = why;
  if (dialog.open) return;
  by("key-input").value = key();
  by("key-clear").hidden = !key();
  dialog.showModal();
}

const settings = new Settings();
const playground = new Playground(settings, askForKey);
const status = new Status(askForKey);

by("toggle-settings").addEventListener("click", () => {
  const hidden = !by("settings").hidden;
  by("settings").hidden = hidden;
  by("toggle-settings").setAttribute("aria-expanded", String(!hidden));
});
if (matchMedia("(min-width: 1000px)").matches) by("toggle-settings").click();

// The models that this caller may use; the first refusal asks for a key.
let hasModels = false;
let tryAgain = true;  // what was refused is not asked again, so that the server does not count it
async function listModels(quietly = false) {
  const notice = by("playground-notice");
  const say = (text, withKey) => {
    notice.replaceChildren(text);
    if (withKey) notice.append(make("button", { type: "button", onclick: () => askForKey() }, "Enter a key"));
    notice.hidden = !text;
  };
  tryAgain = false;
  try {
    const { data } = await (await get("v1/models")).json();
    hasModels = true;
    say(data.length ? "" : "No model is served to you.");
    playground.setModels(data.map((model) => model.id));
    status.setModels(data);
    return true;
  } catch (error) {
    playground.setModels([]);
    if (error.status === 401) {
      say(key() ? `The key was not taken: ${error.message}` : "This server asks for an API key.", true);
      if (!quietly) askForKey(key() ? error.message : "");
    } else if (error.status === 403) {
      hasModels = true;  // nothing to wait for
      say("This key may not use models: it needs the permission infer. Status may be open to it.", true);
    } else if (error.status !== 503) {
      say(error.status ? error.message : "The server does not answer.");
    }
    tryAgain = error.status === undefined || error.status === 503;
    return false;
  }
}

by("key-button").addEventListener("click", () => askForKey());
by("key-clear").addEventListener("click", () => { setKey(""); by("key-dialog").close(); listModels(true); status.tick(); });
by("key-dialog").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setKey(by("key-input").value.trim());
  by("key-error").textContent = "";
  if (await listModels(true) || hasModels) by("key-dialog").close();
  else by("key-error").textContent = by("playground-notice").firstChild?.textContent || "The key was not taken.";
  status.tick();
});

function showPhase(kind, text) {
  by("phase").dataset.kind = kind;
  if (by("phase-text").textContent !== text) by("phase-text").textContent = text;
  status.setPhase(text);
}

async function watchPhase() {
  let again = 5000;
  try {
    const { ok, status: code, body } = await readiness();
    if (ok) {
      showPhase("good", "Serving");
      if (tryAgain) await listModels(true);
    } else if (body.status === "loading") {
      const part = body.total > 0 ? ` ${Math.floor((100 * body.bytes) / body.total)} % of ${bytes(body.total)}` : "";
      const left = body.eta_s ? `, ${duration(body.eta_s)} left` : "";
      showPhase("busy", body.phase === "warm-up" ? `Warming up ${body.model}` : `Loading ${body.model}${part}${left}`);
      again = 1000;
    } else {
      showPhase("bad", body.error?.message ?? `Not ready (${code})`);
    }
  } catch {
    showPhase("bad", "Not reachable");
  }
  setTimeout(watchPhase, again);
}

function showView() {
  const name = location.hash === "#status" ? "status" : "playground";
  for (const view of ["playground", "status"]) {
    by(`view-${view}`).hidden = view !== name;
    if (view === name) by(`nav-${view}`).setAttribute("aria-current", "page");
    else by(`nav-${view}`).removeAttribute("aria-current");
  }
  document.title = name === "status" ? "Status – Penstock" : "Penstock";
  status.run(name === "status");
}
addEventListener("hashchange", showView);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !by("view-status").hidden) status.tick(); });

let language = "curl";
function showCode() {
  const requests = playground.lastRequests();
  for (const button of document.querySelectorAll("[data-language]"))
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  by("code-text").value = requests.length ? (language === "curl" ? asCurl : asPython)(requests) : "";
  by("code-note").textContent = requests.length ? (key() ? "Your key is not in it: set PENSTOCK_API_KEY." : "") : "A setting is not right yet.";
}
by("open-code").addEventListener("click", () => { showCode(); by("code-dialog").showModal(); });
for (const button of document.querySelectorAll("[data-language]"))
  button.addEventListener("click", () => { language = button.dataset.language; showCode(); });
by("code-copy").addEventListener("click", async () => {
  by("code-note").textContent = (await copyText(by("code-text").value)) ? "Copied" : "Not copied: select the text and copy it.";
});

showView();
listModels().then(watchPhase);
