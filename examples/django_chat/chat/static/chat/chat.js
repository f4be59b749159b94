/**
 * A room: one socket for what is said, and another one for who is typing.
 */
import { socket } from "fairlead";

const find = (selector) => document.querySelector(selector);
const { talk, typing } = find("main").dataset;
const log = find("#log");
const text = find("#text");

const shown = new Set(); // the ids of messages: on every connection the newest ones come again

// Talking.

const talking = socket(talk);
const others = socket(typing);
for (const each of [talking, others]) {
  each.addEventListener("connecting", () => say("Connecting…"));
  each.addEventListener("open", () => talking.state === others.state && say("Live"));
  each.addEventListener("closed", ({ detail }) => say(detail.final ? "Closed" : "Connection lost"));
}

talking.addEventListener("message", ({ data }) => show(JSON.parse(data)));

find("#compose").addEventListener("submit", (event) => {
  event.preventDefault();
  if (talking.send(text.value)) text.value = "";
  else say("That was not sent: there is no connection");
});

function show({ id, author, text, at }) {
  if (shown.has(id)) return;
  shown.add(id);
  const item = document.createElement("li");
  item.dataset.id = id;
  const time = Object.assign(document.createElement("time"), {
    dateTime: at,
    textContent: new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }),
  });
  item.append(Object.assign(document.createElement("b"), { textContent: author }), " ", time, document.createElement("br"), text);
  const next = [...log.children].find((other) => Number(other.dataset.id) > id);
  log.insertBefore(item, next ?? null);
  item.scrollIntoView({ block: "nearest" });
}

function say(words) {
  find("#status").textContent = words;
}

// Typing.

let told = 0;
text.addEventListener("input", () => {
  if (Date.now() - told > 2_000 && others.send("typing")) told = Date.now();
});

let forget;
others.addEventListener("message", ({ data }) => {
  find("#typing").textContent = `${JSON.parse(data).author} is typing…`;
  clearTimeout(forget);
  forget = setTimeout(() => (find("#typing").textContent = ""), 3_000);
});
