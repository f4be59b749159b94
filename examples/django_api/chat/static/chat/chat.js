/**
 * The page: history over HTTP, news over the gateway. A message may come both ways, so each is kept under its id.
 */
import { connect } from "fairlead";

const find = (selector) => document.querySelector(selector);
const log = find("#log");
const compose = find("#compose");
const me = document.body.dataset.user;

/** @type {Map<number, {link: HTMLAnchorElement, messages: Map<number, object>, unread: number, loaded: boolean}>} */
const rooms = new Map();
for (const link of document.querySelectorAll("#rooms a")) {
  rooms.set(Number(link.hash.slice(1)), { link, messages: new Map(), unread: 0, loaded: false });
}
let current = 0;

// News.

const connection = connect();
for (const [id, room] of rooms) {
  connection.subscribe({ room: id }, (message) => {
    keep(id, [message]);
    if (id !== current) mark(room, room.unread + 1);
  });
}

// In the room, for the first time or again: from now on nothing is missed, so ask for what came before.
connection.addEventListener("subscribed", ({ detail }) => load(detail.room.room));
connection.addEventListener("unsubscribed", ({ detail }) => {
  rooms.get(detail.room.room)?.link.parentElement.remove();
  rooms.delete(detail.room.room);
  choose();
});

connection.addEventListener("connecting", () => say("connecting", "Connecting…"));
connection.addEventListener("open", () => say("open", "Live"));
connection.addEventListener("closed", ({ detail }) => {
  if (!detail.final) return say("waiting", `Connection lost. Trying again in ${Math.ceil(detail.delay / 1000)} s`);
  if (detail.code === 4401) return say("closed", "Logged out. ", "Log in again");
  say("closed", "Closed. ", "Try again");
});

/** Show how the connection is; with a way out, where there is only one. */
function say(state, text, link) {
  const status = find("#status");
  status.dataset.state = state;
  status.textContent = text;
  if (link) status.append(Object.assign(document.createElement("a"), { href: "/", textContent: link }));
}

// History.

async function load(id) {
  const room = rooms.get(id);
  const answer = await fetch(room.link.dataset.messages).catch(() => null);
  if (answer?.ok) keep(id, (await answer.json()).messages);
  room.loaded = true;
  if (id === current) log.ariaBusy = "false";
}

// Saying something.

compose.addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = current;
  const body = new FormData(compose);
  const button = compose.querySelector("button");
  button.disabled = true;
  const answer = await fetch(rooms.get(id).link.dataset.messages, { method: "POST", body }).catch(() => null);
  button.disabled = false;
  if (!answer?.ok) return complain(answer?.status === 401 ? "You are logged out." : "That was not sent. Try again.");
  compose.reset();
  keep(id, [await answer.json()]);
});

function complain(text) {
  const field = find("#text");
  field.setCustomValidity(text);
  field.reportValidity();
  field.addEventListener("input", () => field.setCustomValidity(""), { once: true });
}

// The rooms and what was said in them.

function keep(id, messages) {
  const known = rooms.get(id)?.messages;
  if (!known) return;
  for (const message of messages) known.set(message.id, message);
  if (id === current) show(known);
}

function show(messages) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const shown = new Map([...log.children].map((item) => [Number(item.dataset.id), item]));
  const inOrder = [...messages.values()].sort((one, other) => one.id - other.id);
  for (const [place, message] of inOrder.entries()) {
    const item = shown.get(message.id) ?? draw(message);
    if (log.children[place] !== item) log.insertBefore(item, log.children[place] ?? null);
  }
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function draw({ id, author, text, at }) {
  const item = find("#message").content.firstElementChild.cloneNode(true);
  const time = new Date(at);
  item.dataset.id = id;
  item.classList.toggle("mine", author === me);
  item.querySelector("b").textContent = author;
  item.querySelector("time").dateTime = at;
  item.querySelector("time").textContent = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  item.querySelector(".text").textContent = text;
  return item;
}

function mark(room, unread) {
  room.unread = unread;
  room.link.dataset.unread = unread || "";
  room.link.ariaLabel = unread ? `${room.link.textContent.trim()}, ${unread} unread` : null;
}

function choose() {
  const wanted = Number(location.hash.slice(1));
  const id = rooms.has(wanted) ? wanted : rooms.keys().next().value;
  compose.hidden = id === undefined;
  if (id === current) return;
  rooms.get(current)?.link.removeAttribute("aria-current");
  current = id;
  log.replaceChildren();
  const room = rooms.get(id);
  find("#title").textContent = room ? room.link.textContent.trim() : "You are in no room";
  if (!room) return;
  room.link.setAttribute("aria-current", "page");
  mark(room, 0);
  log.ariaBusy = String(!room.loaded);
  show(room.messages);
}

addEventListener("hashchange", choose);
choose();
