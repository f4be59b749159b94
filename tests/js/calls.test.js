import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, it, mock } from "node:test";

import { CallError, Unanswered, calls } from "../../src/fairlead/static/fairlead.js";
import { FakeWebSocket, failure, isolate, record, settle, tick, world } from "./fakes.js";

const make = (options = {}) => {
  const caller = calls("ws://app.test/ws/", { WebSocket: FakeWebSocket, ...options });
  world.opened.push(caller);
  return caller;
};
const open = (options) => {
  const caller = make(options);
  FakeWebSocket.last.opens();
  return caller;
};
const answer = (id, result) => FakeWebSocket.last.says({ jsonrpc: "2.0", id, result });
const yields = (token, value) =>
  FakeWebSocket.last.says({ jsonrpc: "2.0", method: "$/progress", params: { token, value } });
const cancellation = (id) => ({ jsonrpc: "2.0", method: "$/cancelRequest", params: { id } });
const requests = () => FakeWebSocket.last.requests;
const OVER = { done: true, value: undefined };

isolate();

describe("calling", () => {
  it("sends arguments by position or by name, and resolves with the result", async () => {
    const caller = open();
    const sum = caller.call("add", 1, 2);
    const none = caller.call("now");
    const named = caller.callNamed("add", { a: 1, b: 2 });
    assert.deepEqual(requests(), [
      { jsonrpc: "2.0", id: 1, method: "add", params: [1, 2] },
      { jsonrpc: "2.0", id: 2, method: "now", params: [] },
      { jsonrpc: "2.0", id: 3, method: "add", params: { a: 1, b: 2 } },
    ]);
    answer(3, "named");
    answer(1, 3);
    answer(2, null);
    assert.deepEqual(await Promise.all([sum, none, named]), [3, null, "named"]);
  });

  it("rejects with the server's error, data included", async () => {
    const called = open().call("divide", 1, 0);
    FakeWebSocket.last.says({ jsonrpc: "2.0", id: 1, error: { code: 7, message: "by zero", data: { by: 0 } } });
    const error = await failure(called);
    assert.ok(error instanceof CallError);
    assert.deepEqual([error.code, error.message, error.data], [7, "by zero", { by: 0 }]);
  });

  it("rejects what has no JSON form, and sends nothing", async () => {
    const caller = open();
    assert.ok((await failure(caller.call("f", 1n))) instanceof TypeError);
    assert.deepEqual(requests(), []);
  });

  it("hears only the first answer, and none to what nobody asked", async () => {
    const called = open().call("f");
    for (const id of [2, "1", null, "__proto__"]) answer(id, "foreign");
    answer(1, "first");
    answer(1, "second");
    assert.equal(await called, "first");
  });

  it("sends a notification without an id", () => {
    const caller = open();
    assert.equal(caller.notify("moved", 1, 2), true);
    assert.equal(caller.notifyNamed("moved", { x: 1 }), true);
    assert.deepEqual(requests(), [
      { jsonrpc: "2.0", method: "moved", params: [1, 2] },
      { jsonrpc: "2.0", method: "moved", params: { x: 1 } },
    ]);
  });
});

describe("without a connection, calls and notifications", () => {
  it("wait for it, and keep their order", async () => {
    const caller = make();
    const first = caller.call("first");
    caller.notify("second");
    const third = caller.call("third");
    assert.deepEqual(FakeWebSocket.last.sent, []);
    FakeWebSocket.last.breaks();
    tick(1000);
    FakeWebSocket.last.opens();
    assert.deepEqual(
      requests().map(({ method }) => method),
      ["first", "second", "third"],
    );
    answer(1, "a");
    answer(3, "c");
    assert.deepEqual(await Promise.all([first, third]), ["a", "c"]);
  });

  it("are sent once, however often it comes back", () => {
    const caller = make();
    caller.notify("once");
    FakeWebSocket.last.opens();
    FakeWebSocket.last.breaks();
    tick(1000);
    FakeWebSocket.last.opens();
    assert.deepEqual(requests(), []);
  });

  it("are not changed by what happens to their arguments later", () => {
    const list = [1];
    make().notify("f", list);
    list.push(2);
    FakeWebSocket.last.opens();
    assert.deepEqual(requests()[0].params, [[1]]);
  });

  it("are bounded", async () => {
    const caller = make({ maxWaiting: 2 });
    caller.notify("a");
    caller.call("b").catch(() => {});
    assert.equal(caller.notify("c"), false);
    const { signal } = new AbortController();
    const error = await failure(caller.with({ signal }).call("d"));
    assert.ok(error instanceof Unanswered);
    assert.equal(error.sent, false);
    assert.equal(getEventListeners(signal, "abort").length, 0);
    FakeWebSocket.last.opens();
    assert.deepEqual(
      requests().map(({ method }) => method),
      ["a", "b"],
    );
  });

  it("end unsent when there will never be one", async () => {
    const caller = make();
    const waiting = caller.call("f");
    FakeWebSocket.last.breaks(4403);
    for (const called of [waiting, caller.call("g")]) {
      const error = await failure(called);
      assert.ok(error instanceof Unanswered);
      assert.equal(error.sent, false);
    }
    assert.equal(caller.notify("h"), false);
  });
});

describe("calls in a crowd", () => {
  const methods = () => requests().map(({ method }) => method);

  it("take turns, and keep their order among notifications", async () => {
    const caller = open({ maxRunning: 2 });
    const called = ["a", "b", "c", "d"].map((name) => caller.call(name));
    caller.notify("e");
    assert.deepEqual(methods(), ["a", "b"]);
    answer(2, "B");
    assert.deepEqual(methods(), ["a", "b", "c"]);
    answer(3, "C");
    assert.deepEqual(methods(), ["a", "b", "c", "d"]);
    answer(1, "A");
    assert.deepEqual(methods(), ["a", "b", "c", "d", "e"]);
    answer(4, "D");
    assert.deepEqual(await Promise.all(called), ["A", "B", "C", "D"]);
  });

  it("make room when they are given up", async () => {
    const caller = open({ maxRunning: 1 });
    const controller = new AbortController();
    const first = caller.with({ signal: controller.signal }).call("a");
    const second = caller.with({ timeout: 500 }).call("b");
    const third = caller.call("c");
    tick(500);
    assert.equal((await failure(second)).name, "TimeoutError");
    assert.deepEqual(methods(), ["a"], "what was not sent needs no cancelling");
    controller.abort();
    assert.equal((await failure(first)).name, "AbortError");
    assert.deepEqual(methods().toSorted(), ["$/cancelRequest", "a", "c"]);
    answer(3, "C");
    assert.equal(await third, "C");
  });

  it("do not wait for notifications, nor for streams, which may never end", async () => {
    const caller = open({ maxRunning: 1 });
    caller.notify("n");
    const values = ["s", "t"].map((name) => caller.stream(name).next());
    const called = caller.call("a");
    assert.deepEqual(methods(), ["n", "s", "t", "a"]);
    for (const id of [2, 3, 4]) answer(id, null);
    await Promise.all([...values, called]);
  });

  it("that waited for their turn go on, on the next connection", async () => {
    const caller = open({ maxRunning: 1 });
    const lost = caller.call("a");
    const called = ["b", "c"].map((name) => caller.call(name));
    FakeWebSocket.last.breaks();
    assert.equal((await failure(lost)).sent, true);
    tick(1000);
    FakeWebSocket.last.opens();
    assert.deepEqual(methods(), ["b"]);
    answer(2, "B");
    answer(3, "C");
    assert.deepEqual(await Promise.all(called), ["B", "C"]);
  });

  it("are no more than the servers' own limit allows", () => {
    const caller = open();
    for (let i = 0; i < 40; i++) caller.call("f").catch(() => {});
    assert.equal(requests().length, 16);
  });
});

describe("a lost connection", () => {
  it("ends calls in flight with an unknown outcome, and does not repeat them", async () => {
    const caller = open();
    const called = caller.call("pay");
    FakeWebSocket.last.breaks();
    const error = await failure(called);
    assert.ok(error instanceof Unanswered);
    assert.equal(error.sent, true);
    assert.match(error.message, /unknown/);
    tick(1000);
    FakeWebSocket.last.opens();
    assert.deepEqual(requests(), []);
    const next = caller.call("f");
    assert.deepEqual(requests()[0].id, 2);
    answer(2, 1);
    assert.equal(await next, 1);
  });

  it("leaves alone what waits for the next one", async () => {
    const caller = make();
    const called = caller.call("f");
    FakeWebSocket.last.breaks();
    tick(1000);
    FakeWebSocket.last.opens();
    answer(1, "here");
    assert.equal(await called, "here");
  });

  it("by close() ends calls in flight too", async () => {
    const caller = open();
    const called = caller.call("f");
    caller.close();
    assert.equal((await failure(called)).sent, true);
  });

  it("is noticed by pings, which every answer of any kind stills", async () => {
    const caller = open({ pingInterval: 3000, pongTimeout: 2000 });
    const called = caller.call("f");
    tick(3000);
    assert.equal(requests().at(-1), "ping");
    yields(99, "anything");
    tick(2999);
    assert.equal(caller.state, "open");
    tick(1);
    tick(2000);
    assert.equal(caller.state, "waiting");
    assert.equal((await failure(called)).sent, true);
  });

  for (const code of [4040, 4403]) {
    it(`with close code ${code} is final`, () => {
      const caller = open();
      FakeWebSocket.last.breaks(code);
      assert.equal(caller.state, "closed");
    });
  }

  it("with close code 4401 is asked about once", () => {
    const caller = open();
    FakeWebSocket.last.breaks(4401);
    assert.equal(caller.state, "waiting");
    tick(1000);
    FakeWebSocket.last.opens();
    FakeWebSocket.last.breaks(4401);
    assert.equal(caller.state, "closed");
  });

  it("that never lasted is made again ever later", () => {
    const caller = make();
    const delays = [];
    caller.addEventListener("closed", ({ detail }) => delays.push(detail.delay));
    for (let round = 0; round < 3; round++) {
      FakeWebSocket.last.opens();
      FakeWebSocket.last.breaks();
      tick(delays.at(-1));
    }
    FakeWebSocket.last.opens();
    FakeWebSocket.last.says("pong");
    FakeWebSocket.last.breaks();
    assert.deepEqual(delays, [1000, 2000, 4000, 1000]);
  });

  it("tells the same events as every other", async () => {
    const caller = make();
    const events = record(caller);
    await settle();
    FakeWebSocket.last.opens();
    FakeWebSocket.last.breaks(1012, "restart");
    tick(1000);
    await settle();
    caller.close();
    assert.deepEqual(
      events.map(([type]) => type),
      ["connecting", "open", "closed", "connecting", "closed"],
    );
    assert.deepEqual(events[2][1], { code: 1012, reason: "restart", final: false, delay: 1000 });
  });
});

describe("giving up", () => {
  it("by a signal cancels on the server, rejects with the reason, and ignores the answer", async () => {
    const caller = open();
    const controller = new AbortController();
    const called = caller.with({ signal: controller.signal }).call("slow", 1);
    controller.abort(new Error("enough"));
    assert.equal((await failure(called)).message, "enough");
    assert.deepEqual(requests().slice(1), [cancellation(1)]);
    FakeWebSocket.last.says({ jsonrpc: "2.0", id: 1, error: { code: -32800, message: "cancelled" } });
  });

  it("by a timeout does the same", async () => {
    const caller = open();
    const called = caller.with({ timeout: 500 }).callNamed("slow", {});
    tick(499);
    assert.equal(requests().length, 1);
    tick(1);
    assert.equal((await failure(called)).name, "TimeoutError");
    assert.deepEqual(requests().slice(1), [cancellation(1)]);
  });

  it("after the answer does nothing", async () => {
    const caller = open({ timeout: 500 });
    const controller = new AbortController();
    const called = caller.with({ signal: controller.signal }).call("f");
    assert.equal(getEventListeners(controller.signal, "abort").length, 1);
    answer(1, "in time");
    assert.equal(getEventListeners(controller.signal, "abort").length, 0, "the signal may outlive a thousand calls");
    controller.abort();
    tick(500);
    assert.equal(await called, "in time");
    assert.equal(requests().length, 1);
  });

  it("on a call that waits takes it back unsent", async () => {
    const caller = make({ timeout: 500 });
    const called = caller.call("f");
    tick(500);
    assert.equal((await failure(called)).name, "TimeoutError");
    FakeWebSocket.last.opens();
    assert.deepEqual(requests(), []);
  });

  it("before the call sends nothing", async () => {
    const called = open().with({ signal: AbortSignal.abort() }).call("f");
    assert.equal((await failure(called)).name, "AbortError");
    assert.deepEqual(requests(), []);
  });

  it("has a limit for every call, unless one is given its own", async () => {
    const caller = open({ timeout: 500 });
    const patient = caller.with({ timeout: 0 }).call("f");
    const called = caller.call("g");
    tick(500);
    assert.equal((await failure(called)).name, "TimeoutError");
    answer(1, "late");
    assert.equal(await patient, "late");
  });
});

describe("a stream", () => {
  it("is asked for with the first value, and read with for await", async () => {
    const caller = open();
    const stream = caller.stream("ticks", 3);
    assert.deepEqual(requests(), []);
    const read = (async () => {
      const got = [];
      for await (const value of stream) got.push(value);
      return got;
    })();
    assert.deepEqual(requests(), [{ jsonrpc: "2.0", id: 1, method: "ticks", params: [3] }]);
    for (const value of [1, null, { a: 3 }]) yields(1, value);
    answer(1, null);
    assert.deepEqual(await read, [1, null, { a: 3 }]);
    assert.equal(requests().length, 1, "a stream that has ended is not cancelled");
    assert.deepEqual(await stream.next(), OVER);
  });

  it("takes arguments by name", async () => {
    const first = open().streamNamed("ticks", { count: 3 }).next();
    answer(1, null);
    assert.deepEqual(await first, OVER);
    assert.deepEqual(requests()[0].params, { count: 3 });
  });

  it("gives every value to the reader that asked for it", async () => {
    const stream = open().stream("ticks");
    const readers = [stream.next(), stream.next(), stream.next()];
    yields(1, "a");
    yields(1, "b");
    answer(1, null);
    assert.deepEqual(await Promise.all(readers), [{ done: false, value: "a" }, { done: false, value: "b" }, OVER]);
  });

  it("keeps what nobody has read yet, and then tells its error once", async () => {
    const stream = open().stream("ticks");
    const first = stream.next();
    for (const value of [1, 2]) yields(1, value);
    FakeWebSocket.last.says({ jsonrpc: "2.0", id: 1, error: { code: 7, message: "broke" } });
    assert.equal((await first).value, 1);
    assert.equal((await stream.next()).value, 2);
    assert.equal((await failure(stream.next())).code, 7);
    assert.deepEqual(await stream.next(), OVER);
  });

  it("is cancelled on the server when its loop is left", async () => {
    const caller = open();
    const read = (async () => {
      for await (const value of caller.stream("ticks")) if (value === 2) break;
    })();
    for (const value of [1, 2, 3]) yields(1, value);
    await read;
    assert.deepEqual(requests().slice(1), [cancellation(1)]);
    yields(1, 4);
  });

  it("is cancelled by return() while a value is waited for", async () => {
    const stream = open().stream("ticks");
    const waiting = stream.next();
    assert.deepEqual(await stream.return("bye"), { done: true, value: "bye" });
    assert.deepEqual(await waiting, OVER);
    assert.deepEqual(requests().slice(1), [cancellation(1)]);
    await stream.return();
    assert.equal(requests().length, 2);
    assert.deepEqual(await stream.next(), OVER);
  });

  it("that is left forgets what was not read", async () => {
    const stream = open().stream("ticks");
    const first = stream.next();
    for (const value of [1, 2]) yields(1, value);
    await first;
    await stream.return();
    assert.deepEqual(await stream.next(), OVER);
  });

  it("that is left before it began was never there", async () => {
    const stream = open().stream("ticks");
    await stream.return();
    assert.deepEqual(await stream.next(), OVER);
    assert.deepEqual(requests(), []);
  });

  it("ends with an unknown outcome when the connection is lost", async () => {
    const stream = open().stream("ticks");
    const first = stream.next();
    yields(1, 1);
    FakeWebSocket.last.breaks();
    assert.equal((await first).value, 1);
    assert.equal((await failure(stream.next())).sent, true);
  });

  it("has a timeout that begins anew with every value", async () => {
    const stream = open().with({ timeout: 500 }).stream("ticks");
    const readers = [stream.next(), stream.next(), stream.next()];
    for (let round = 0; round < 2; round++) {
      tick(400);
      yields(1, round);
    }
    tick(500);
    assert.equal((await readers[1]).value, 1);
    assert.equal((await failure(readers[2])).name, "TimeoutError");
    assert.deepEqual(requests().slice(1), [cancellation(1)]);
  });

  it("ends with the reason of its signal", async () => {
    const controller = new AbortController();
    const caller = open();
    const { signal } = controller;
    const first = caller.with({ signal }).streamNamed("ticks", {}).next();
    controller.abort();
    assert.equal((await failure(first)).name, "AbortError");
    const late = caller.with({ signal }).stream("ticks");
    assert.equal((await failure(late.next())).name, "AbortError");
    assert.deepEqual(await late.next(), OVER);
    assert.deepEqual(requests().slice(1), [cancellation(1)]);
  });
});

describe("being called", () => {
  const asks = (method, params, id = "s1") => FakeWebSocket.last.says({ jsonrpc: "2.0", id, method, params });
  const answers = async () => {
    await settle();
    return requests();
  };

  it("answers with what the function returns or resolves with", async () => {
    const caller = open();
    caller.handle("add", (a, b) => a + b);
    caller.handle("greet", async ({ name }) => `hello ${name}`);
    caller.handle("nothing", () => {});
    asks("add", [1, 2], 7);
    asks("greet", { name: "Ada" });
    asks("nothing", undefined, null);
    const got = await answers();
    assert.deepEqual(
      got.toSorted((a, b) => String(a.id).localeCompare(String(b.id))),
      [
        { jsonrpc: "2.0", id: 7, result: 3 },
        { jsonrpc: "2.0", id: null, result: null },
        { jsonrpc: "2.0", id: "s1", result: "hello Ada" },
      ],
    );
  });

  it("says so where there is no such function", async () => {
    open();
    for (const method of ["missing", "toString", "__proto__"]) asks(method, []);
    const error = { code: -32601, message: "method not found" };
    assert.deepEqual(await answers(), Array(3).fill({ jsonrpc: "2.0", id: "s1", error }));
  });

  it("tells the server a CallError as it is", async () => {
    open().handle("confirm", () => {
      throw new CallError(1, "not now", { until: 5 });
    });
    asks("confirm");
    const error = { code: 1, message: "not now", data: { until: 5 } };
    assert.deepEqual(await answers(), [{ jsonrpc: "2.0", id: "s1", error }]);
  });

  it("tells the server nothing of any other error, and the page all", async () => {
    const reported = mock.method(console, "error", () => {});
    const caller = open();
    caller.handle("broken", () => Promise.reject(new Error("secret")));
    caller.handle("odd", () => 1n);
    asks("broken");
    asks("odd");
    const error = { code: -32603, message: "internal error" };
    assert.deepEqual(await answers(), Array(2).fill({ jsonrpc: "2.0", id: "s1", error }));
    assert.deepEqual(
      reported.mock.calls.map((call) => call.arguments[0].constructor),
      [Error, TypeError],
    );
  });

  it("by a notification answers nothing, come what may", async () => {
    const reported = mock.method(console, "error", () => {});
    const got = [];
    const caller = open();
    caller.handle("moved", (...args) => got.push(args));
    caller.handle("broken", () => {
      throw new Error("the page's own");
    });
    for (const method of ["moved", "broken", "unknown", "$/unknown"]) {
      FakeWebSocket.last.says({ jsonrpc: "2.0", method, params: [1, 2] });
    }
    assert.deepEqual(await answers(), []);
    assert.deepEqual(got, [[1, 2]]);
    assert.equal(reported.mock.callCount(), 1);
  });

  it("answers on the connection that asked, or not at all", async () => {
    let finish;
    open().handle("slow", () => new Promise((resolve) => (finish = resolve)));
    asks("slow");
    FakeWebSocket.last.breaks();
    tick(1000);
    FakeWebSocket.last.opens();
    finish("late");
    assert.deepEqual(await answers(), []);
  });

  it("goes on while the page itself calls", async () => {
    const caller = open();
    caller.handle("ask", async () => (await caller.call("back")) + 1);
    asks("ask");
    answer(1, 41);
    assert.deepEqual((await answers()).at(-1), { jsonrpc: "2.0", id: "s1", result: 42 });
  });
});

describe("publications", () => {
  it("arrive as events", () => {
    const caller = open();
    const events = record(caller);
    FakeWebSocket.last.says({ jsonrpc: "2.0", method: "publish", params: { room: { room: 7 }, data: [1] } });
    assert.deepEqual(events, [["publication", { room: { room: 7 }, data: [1] }]]);
  });
});

describe("what is not understood", () => {
  it("is left out", () => {
    const caller = open();
    const odd = ["", "[]", "1", "{", "{}", '{"method":1}', '{"method":"$/progress"}', '{"id":1,"error":"no"}', "pong"];
    for (const text of odd) FakeWebSocket.last.says(text);
    for (const listener of FakeWebSocket.last.listeners.message) listener({ data: new ArrayBuffer(2) });
    assert.deepEqual(requests(), []);
    assert.equal(caller.state, "open");
  });
});
