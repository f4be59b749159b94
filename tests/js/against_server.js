/**
 * Calls in both directions with a real server, whose address is the argument: tests/test_js_client.py starts both, and
 * has the functions that are called here.
 */
import assert from "node:assert/strict";

import { CallError, Unanswered, calls, socket } from "../../src/fairlead/static/fairlead.js";

const [, , address] = process.argv;
const caller = calls(`${address}/ws/`, { firstDelay: 50, pingInterval: 20 });
const failure = (promise) =>
  promise.then(
    () => assert.fail("was not rejected"),
    (error) => error,
  );
const event = (target, type) => new Promise((resolve) => target.addEventListener(type, resolve, { once: true }));

// Values, by position and by name, before there is a connection; and what the server says of wrong ones.
assert.equal(caller.state, "connecting");
assert.deepEqual(await Promise.all([caller.call("add", 1, 2), caller.callNamed("add", { a: 3, b: 4 })]), [3, 7]);
assert.equal((await failure(caller.call("missing"))).code, -32601);
assert.equal((await failure(caller.call("add", "x", 2))).code, -32602);
const told = await failure(caller.call("fail"));
assert.ok(told instanceof CallError);
assert.deepEqual([told.code, told.message, told.data], [7, "no", { why: "so" }]);

// A crowd that is larger than what the server carries out at once.
const crowd = await Promise.all(Array.from({ length: 100 }, (_, i) => caller.call("later", i)));
assert.deepEqual(
  crowd,
  Array.from({ length: 100 }, (_, i) => i),
);

// Streams: to the end, and left early; calls given up. The server counts what was cancelled.
const values = [];
for await (const value of caller.stream("ticks", 3)) values.push(value);
assert.deepEqual(values, [0, 1, 2]);
for await (const value of caller.stream("forever")) if (value === 2) break;
assert.equal((await failure(caller.with({ timeout: 50 }).call("hang"))).name, "TimeoutError");
const controller = new AbortController();
const hanging = failure(caller.with({ signal: controller.signal }).call("hang"));
await caller.call("add", 0, 0);
controller.abort();
assert.equal((await hanging).name, "AbortError");
assert.equal(await caller.call("cancelled"), 3);

// The server calls back.
caller.handle("double", (number) => 2 * number);
caller.handle("greet", async ({ name }) => `hello ${name}`);
caller.handle("refuse", () => {
  throw new CallError(5, "not now", [1]);
});
caller.handle("moved", (x, y) => caller.notify("remember", x + y));
assert.deepEqual(await caller.call("back"), [42, "hello Ada", [5, "not now", [1]], -32601]);
assert.equal(await caller.call("remembered"), 3);

// Rooms.
const publication = event(caller, "publication");
await caller.call("enter", "news");
assert.deepEqual((await publication).detail, { room: "news", data: { text: "Ahoy" } });

// Pings keep a connection on which nothing else happens; and the connection comes back, without what was lost.
await new Promise((resolve) => setTimeout(resolve, 100));
assert.equal(caller.state, "open");
const lost = failure(caller.call("hang"));
await caller.call("leave").catch(() => {});
const error = await lost;
assert.ok(error instanceof Unanswered && error.sent, String(error));
assert.equal(await caller.call("add", 5, 6), 11);
caller.close();

// A plain handler.
const plain = socket(`${address}/echo`);
await event(plain, "open");
for (const data of ["text", new Uint8Array([1, 2]).buffer]) {
  const echoed = event(plain, "message");
  assert.ok(plain.send(data));
  assert.deepEqual((await echoed).data, data);
}
plain.close();
