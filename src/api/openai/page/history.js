// Conversations, kept in this browser only: the newest first, and no more than fit.
import { by, make } from "./dom.js";

const KEPT = "penstock.chats";
const MOST = 50;

function read() {
  try {
    const chats = JSON.parse(localStorage.getItem(KEPT) ?? "[]");
    return Array.isArray(chats) ? chats.filter((c) => c && typeof c.id === "string" && Array.isArray(c.columns)) : [];
  } catch {
    return [];
  }
}

function write(chats) {
  chats = chats.slice(0, MOST);
  while (true) {
    try {
      localStorage.setItem(KEPT, JSON.stringify(chats));
      return;
    } catch {
      if (!chats.length) return;
      chats = chats.slice(0, -1);  // no room: the oldest goes
    }
  }
}

// `columns`: [{model, messages}]
export function keep(id, columns) {
  const first = columns.flatMap((c) => c.messages).find((m) => m.role === "user");
  if (!first) return;
  const rest = read().filter((chat) => chat.id !== id);
  write([{ id, title: first.content.slice(0, 80), when: Date.now(), columns }, ...rest]);
}

export function showHistory(onOpen, onForget) {
  const list = by("history-list");
  const chats = read();
  list.replaceChildren(...chats.map((chat) => make("li", {},
    make("button", { type: "button", class: "open", onclick: () => { by("history-dialog").close(); onOpen(chat); } },
      make("span", {}, chat.title || "untitled"),
      make("span", { class: "when" }, `${new Date(chat.when).toLocaleString()} · ${chat.columns.map((c) => c.model).join(", ")}`)),
    make("button", {
      type: "button", class: "quiet", "aria-label": `Forget ${chat.title}`,
      onclick: () => { write(read().filter((c) => c.id !== chat.id)); onForget(chat.id); showHistory(onOpen, onForget); },
    }, "Forget"))));
  if (!chats.length) list.append(make("li", { class: "empty" }, "Nothing yet: what you ask appears here."));
  by("history-clear").hidden = !chats.length;
  by("history-clear").onclick = () => { write([]); onForget(null); showHistory(onOpen, onForget); };
}
