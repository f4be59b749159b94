// Both connections come back by themselves: stop the server and start it again, and watch.
import { CallError, calls, socket } from "/fairlead.js";

const element = (id) => document.getElementById(id);
const server = calls("/ws/");
const wall = socket("/wall");

server.addEventListener("open", async () => {
  element("status").textContent = "Live";
  try {
    for await (const time of server.stream("clock")) element("clock").textContent = time;
  } catch (error) {
    // The connection broke, and the next one begins a new stream; or the server says what went wrong.
    if (error instanceof CallError) element("clock").textContent = error.message;
  }
});
server.addEventListener("closed", () => {
  element("status").textContent = "Reconnecting";
});

element("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { a, b } = event.target.elements;
  try {
    element("sum").textContent = await server.call("add", a.valueAsNumber, b.valueAsNumber);
  } catch (error) {
    element("sum").textContent = error.message;
  }
});

wall.addEventListener("message", ({ data }) => {
  const line = document.createElement("li");
  line.textContent = data;
  element("wall").prepend(line);
});
element("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const { text } = event.target.elements;
  if (wall.send(text.value)) text.value = "";
});
