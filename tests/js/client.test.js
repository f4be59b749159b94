import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { connect } from "../../src/fairlead/static/fairlead.js";
import { FakeWebSocket, failure, isolate, record, settle, tick, world } from "./fakes.js";

const URL = "ws://gateway.test/ws/";

const ignore = () => {};
const open = (options = {}) => {
  const connection = connect(URL, { WebSocket: FakeWebSocket, ...options });
  world.opened.push(connection);
  return connection;
};

/** The word that a promise was rejected with. */
const refusal = async (promise) => (await failure(promise)).message;

isolate();

describe("subscribing", () => {
  it("is held back until the server has let us in, and keeps its order", () => {
    const connection = open();
    connection.subscribe("a", ignore);
    connection.subscribe({ room: 7 }, ignore);
    assert.deepEqual(FakeWebSocket.last.sent, []);
    FakeWebSocket.last.greets();
    assert.deepEqual(FakeWebSocket.last.requests, [
      { type: "subscribe", room: "a", requestId: 1 },
      { type: "subscribe", room: { room: 7 }, requestId: 2 },
    ]);
  });

  it("goes out at once on an open connection", () => {
    const connection = open();
    FakeWebSocket.last.greets();
    connection.subscribe("a", ignore);
    assert.deepEqual(FakeWebSocket.last.requests, [{ type: "subscribe", room: "a", requestId: 1 }]);
  });

  it("resolves ready on success", async () => {
    const { ready } = open().subscribe("a", ignore);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says({ requestId: 1, code: "success" });
    assert.equal(await ready, undefined);
  });

  it("rejects ready with the server's word, and tells no event", async () => {
    const connection = open();
    const events = record(connection);
    const { ready, ended } = connection.subscribe("a", ignore);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says({ requestId: 1, code: "error", message: "room-not-found" });
    assert.equal(await refusal(ready), "room-not-found");
    assert.equal(await ended, "room-not-found");
    assert.ok(!events.some(([type]) => type === "unsubscribed"));
  });

  it("twice to one room gives each its own publications", () => {
    const connection = open();
    const got = [];
    connection.subscribe("a", (data) => got.push(["first", data]));
    const second = connection.subscribe("a", (data, room) => got.push(["second", data, room]));
    const socket = FakeWebSocket.last;
    socket.greets();
    socket.says({ type: "publish", requestId: 1, room: "a", data: 1 });
    socket.says({ type: "publish", requestId: 2, room: "a", data: 1 });
    second.unsubscribe();
    socket.says({ type: "publish", requestId: 1, room: "a", data: 2 });
    socket.says({ type: "publish", requestId: 2, room: "a", data: 2 });
    assert.deepEqual(got, [
      ["first", 1],
      ["second", 1, "a"],
      ["first", 2],
    ]);
  });

  it("is bounded, and a place is free again after unsubscribing", async () => {
    const connection = open({ maxSubscriptions: 1 });
    const first = connection.subscribe("a", ignore);
    assert.equal(await refusal(connection.subscribe("b", ignore).ready), "too-many-subscriptions");
    first.unsubscribe();
    connection.subscribe("c", ignore);
    FakeWebSocket.last.greets();
    assert.deepEqual(
      FakeWebSocket.last.requests.map(({ room }) => room),
      ["c"],
    );
  });

  it("is not changed by what happens to the room object later", () => {
    const room = { room: 1 };
    open().subscribe(room, ignore);
    room.room = 2;
    FakeWebSocket.last.greets();
    assert.deepEqual(FakeWebSocket.last.requests[0].room, { room: 1 });
  });

  it("takes __proto__ as a room, a key and an id for ordinary data", () => {
    const connection = open();
    const got = [];
    connection.subscribe("__proto__", (data) => got.push(data));
    connection.subscribe(JSON.parse('{"__proto__": "x"}'), (data) => got.push(data));
    const socket = FakeWebSocket.last;
    socket.greets();
    assert.equal(socket.sent[1], '{"type":"subscribe","room":{"__proto__":"x"},"requestId":2}');
    socket.says('{"type":"publish","requestId":"__proto__","room":"__proto__","data":0}');
    socket.says('{"type":"publish","requestId":1,"room":"__proto__","data":{"__proto__":{"polluted":true}}}');
    assert.equal(got.length, 1);
    assert.equal({}.polluted, undefined);
  });

  it("leaves the connection alone when a callback throws", () => {
    const connection = open();
    connection.subscribe("a", () => {
      throw new Error("the page's own mistake");
    });
    const socket = FakeWebSocket.last;
    socket.greets();
    assert.throws(() => socket.says({ type: "publish", requestId: 1, room: "a", data: 1 }), /own mistake/);
    tick(25_000);
    socket.says("pong");
    tick(10_000);
    assert.equal(connection.state, "open");
  });
});

describe("unsubscribing", () => {
  it("tells an open server once, and silences the callback at once", async () => {
    const connection = open();
    const got = [];
    const subscription = connection.subscribe("a", (data) => got.push(data));
    const socket = FakeWebSocket.last;
    socket.greets();
    socket.says({ requestId: 1, code: "success" });
    subscription.unsubscribe();
    subscription.unsubscribe();
    socket.says({ type: "publish", requestId: 1, room: "a", data: "late" });
    socket.says({ requestId: 1, code: "success" });
    assert.deepEqual(socket.requests.slice(1), [{ type: "unsubscribe", requestId: 1 }]);
    assert.deepEqual(got, []);
    assert.equal(await subscription.ended, "unsubscribed");
  });

  it("before the connection opens leaves nothing to say", async () => {
    const connection = open();
    const subscription = connection.subscribe("a", ignore);
    subscription.unsubscribe();
    FakeWebSocket.last.greets();
    assert.deepEqual(FakeWebSocket.last.sent, []);
    assert.equal(await refusal(subscription.ready), "unsubscribed");
  });

  it("never gives an id away twice", () => {
    const connection = open();
    FakeWebSocket.last.greets();
    for (let round = 0; round < 3; round++) connection.subscribe("a", ignore).unsubscribe();
    assert.deepEqual(
      FakeWebSocket.last.requests.map(({ requestId }) => requestId),
      [1, 1, 2, 2, 3, 3],
    );
  });

  it("by the server is an event and an end, and is not undone by a reconnect", async () => {
    const connection = open();
    const events = record(connection);
    const subscription = connection.subscribe({ room: 7 }, ignore);
    await settle();
    const socket = FakeWebSocket.last;
    socket.greets();
    socket.says({ requestId: 1, code: "success" });
    socket.says({ type: "unsubscribed", requestId: 1, room: { room: 7 }, reason: "revoked" });
    assert.equal(await subscription.ended, "revoked");
    assert.deepEqual(events.at(-1), ["unsubscribed", { subscription, room: { room: 7 }, reason: "revoked" }]);
    socket.breaks();
    tick(1000);
    FakeWebSocket.last.greets();
    assert.deepEqual(FakeWebSocket.last.sent, []);
  });
});

describe("rooms joined by the API", () => {
  it("arrive as events", async () => {
    const connection = open();
    const events = record(connection);
    await settle();
    FakeWebSocket.last.greets({ rooms: ["news"] });
    FakeWebSocket.last.says({ type: "publish", requestId: null, room: "news", data: [1] });
    FakeWebSocket.last.says({ type: "unsubscribed", requestId: null, room: "news", reason: "revoked" });
    assert.deepEqual(events.slice(2), [
      ["publication", { room: "news", data: [1] }],
      ["unsubscribed", { subscription: undefined, room: "news", reason: "revoked" }],
    ]);
  });
});

describe("reconnecting", () => {
  it("asks again for what is still wanted, once each", async () => {
    const connection = open();
    const kept = connection.subscribe("kept", ignore);
    const dropped = connection.subscribe("dropped", ignore);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says({ requestId: 1, code: "success" });
    FakeWebSocket.last.breaks();
    dropped.unsubscribe();
    const added = connection.subscribe("added", ignore);
    tick(1000);
    const socket = FakeWebSocket.last;
    assert.equal(FakeWebSocket.made.length, 2);
    assert.deepEqual(socket.sent, []);
    socket.greets();
    assert.deepEqual(socket.requests, [
      { type: "subscribe", room: "kept", requestId: 1 },
      { type: "subscribe", room: "added", requestId: 3 },
    ]);
    socket.says({ requestId: 1, code: "success" });
    socket.says({ requestId: 3, code: "success" });
    await Promise.all([kept.ready, added.ready]);
  });

  it("tells of every room it is in again", () => {
    const connection = open();
    const rooms = [];
    connection.addEventListener("subscribed", ({ detail }) => rooms.push(detail));
    const subscription = connection.subscribe({ room: 7 }, ignore);
    for (let round = 0; round < 2; round++) {
      FakeWebSocket.last.greets();
      FakeWebSocket.last.says({ requestId: 1, code: "success" });
      FakeWebSocket.last.breaks();
      tick(2000);
    }
    assert.deepEqual(rooms, Array(2).fill({ subscription, room: { room: 7 } }));
  });

  it("keeps ready pending until some connection answers", async () => {
    const subscription = open().subscribe("a", ignore);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.breaks();
    tick(1000);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says({ requestId: 1, code: "success" });
    await subscription.ready;
  });

  it("waits a random time whose bound doubles up to the maximum", () => {
    const connection = open({ firstDelay: 100, maxDelay: 1000 });
    const bounds = [];
    connection.addEventListener("closed", ({ detail }) => bounds.push(detail.delay));
    for (let attempt = 0; attempt < 6; attempt++) {
      FakeWebSocket.last.breaks();
      const made = FakeWebSocket.made.length;
      tick(bounds.at(-1) - 1);
      assert.equal(FakeWebSocket.made.length, made, "came back too early");
      tick(1);
      assert.equal(FakeWebSocket.made.length, made + 1);
    }
    assert.deepEqual(bounds, [100, 200, 400, 800, 1000, 1000]);
    world.random = 0.25;
    FakeWebSocket.last.breaks();
    assert.equal(bounds.at(-1), 250);
  });

  it("waits longer after a connection that broke at once, and briefly after one that lasted", () => {
    const connection = open();
    const delays = [];
    connection.addEventListener("closed", ({ detail }) => delays.push(detail.delay));
    for (let round = 0; round < 2; round++) {
      FakeWebSocket.last.greets();
      FakeWebSocket.last.breaks();
      tick(delays.at(-1));
    }
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says("pong");
    FakeWebSocket.last.breaks();
    assert.deepEqual(delays, [1000, 2000, 1000]);
  });

  for (const code of [1000, 1001, 1005, 1006, 1011, 1012, 1013]) {
    it(`follows close code ${code}`, () => {
      const connection = open();
      FakeWebSocket.last.greets();
      FakeWebSocket.last.breaks(code, "why");
      assert.equal(connection.state, "waiting");
    });
  }

  it("happens at once when the network returns", () => {
    const handlers = {};
    globalThis.addEventListener = (type, handler, { signal }) => {
      handlers[type] = handler;
      signal.addEventListener("abort", () => delete handlers[type]);
    };
    try {
      const connection = open();
      FakeWebSocket.last.breaks();
      handlers.online();
      assert.equal(FakeWebSocket.made.length, 2);
      tick(60_000);
      FakeWebSocket.last.greets();
      connection.close();
      assert.deepEqual(handlers, {}, "a closed connection still listens");
    } finally {
      delete globalThis.addEventListener;
    }
  });

  it("happens at once when the page is looked at again, and an open connection is tried", () => {
    let look;
    globalThis.document = { visibilityState: "hidden", addEventListener: (_, handler) => (look = handler) };
    try {
      open();
      FakeWebSocket.last.breaks();
      look();
      assert.equal(FakeWebSocket.made.length, 1, "a hidden page waits");
      globalThis.document.visibilityState = "visible";
      look();
      assert.equal(FakeWebSocket.made.length, 2);
      FakeWebSocket.last.greets();
      look();
      assert.deepEqual(FakeWebSocket.last.sent, ["ping"]);
    } finally {
      delete globalThis.document;
    }
  });

  it("is refused a room that was lost meanwhile: an event, and an end", async () => {
    const connection = open();
    const events = record(connection);
    const subscription = connection.subscribe("a", ignore);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says({ requestId: 1, code: "success" });
    FakeWebSocket.last.breaks();
    tick(1000);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says({ requestId: 1, code: "error", message: "room-not-found" });
    assert.deepEqual(events.at(-1), ["unsubscribed", { subscription, room: "a", reason: "room-not-found" }]);
    assert.equal(await subscription.ended, "room-not-found");
    assert.equal(await subscription.ready, undefined);
  });

  it("asks again for a room that the server could not give just now", () => {
    const connection = open({ maxDelay: 5000 });
    const subscription = connection.subscribe("a", ignore);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says({ requestId: 1, code: "success" });
    FakeWebSocket.last.breaks();
    tick(1000);
    const socket = FakeWebSocket.last;
    socket.greets();
    socket.says({ requestId: 1, code: "error", message: "unavailable" });
    tick(5000);
    assert.equal(socket.sent.filter((text) => text.includes("subscribe")).length, 2);
    socket.says({ requestId: 1, code: "error", message: "unavailable" });
    subscription.unsubscribe();
    tick(5000);
    assert.deepEqual(socket.requests.slice(2), [{ type: "unsubscribe", requestId: 1 }]);
  });
});

describe("the watchdog", () => {
  it("pings as often as the server wishes", () => {
    open();
    FakeWebSocket.last.greets({ ping: 3 });
    for (let round = 0; round < 3; round++) {
      tick(3000);
      FakeWebSocket.last.says("pong");
    }
    assert.deepEqual(FakeWebSocket.last.sent, ["ping", "ping", "ping"]);
  });

  it("pings at least once an hour", () => {
    open();
    FakeWebSocket.last.greets({ ping: 1e9 });
    tick(3_600_000);
    assert.deepEqual(FakeWebSocket.last.sent, ["ping"]);
  });

  it("gives up a connection that does not answer, and hears it no more", () => {
    const connection = open({ pongTimeout: 4000 });
    const events = record(connection);
    const got = [];
    connection.subscribe("a", (data) => got.push(data));
    const dead = FakeWebSocket.last;
    dead.greets();
    tick(25_000 + 3999);
    assert.equal(connection.state, "open");
    tick(1);
    assert.deepEqual(events.at(-1), [
      "closed",
      { code: 1006, reason: "the server does not answer", final: false, delay: 1000 },
    ]);
    assert.ok(dead.closed);
    dead.says({ type: "publish", requestId: 1, room: "a", data: "ghost" });
    dead.breaks(4401);
    assert.deepEqual(got, []);
    assert.equal(connection.state, "waiting");
  });

  it("counts any message as an answer", () => {
    const connection = open({ pongTimeout: 4000 });
    FakeWebSocket.last.greets();
    tick(25_000);
    FakeWebSocket.last.says({ type: "something new" });
    tick(4000);
    assert.equal(connection.state, "open");
  });

  it("is not put off by pings that come faster than the timeout", () => {
    const connection = open({ pongTimeout: 10_000 });
    FakeWebSocket.last.greets({ ping: 1 });
    tick(11_000);
    assert.equal(connection.state, "waiting");
  });

  it("gives up an attempt that nobody answers", () => {
    const connection = open({ connectTimeout: 7000 });
    const events = record(connection);
    FakeWebSocket.last.says("not a greeting");
    tick(7000);
    assert.equal(events.at(-1)[1].reason, "the server did not answer in time");
    assert.equal(connection.state, "waiting");
  });

  for (const ping of [undefined, 0, -1, "x", null]) {
    it(`falls back to 25 s for a ping of ${JSON.stringify(ping)}`, () => {
      open();
      FakeWebSocket.last.greets({ ping });
      tick(24_999);
      assert.deepEqual(FakeWebSocket.last.sent, []);
      tick(1);
      assert.deepEqual(FakeWebSocket.last.sent, ["ping"]);
    });
  }
});

describe("refusals", () => {
  it("in the first message are final, and end what waits", async () => {
    const connection = open();
    const events = record(connection);
    const subscription = connection.subscribe("a", ignore);
    FakeWebSocket.last.says({ is_authorized: false, error: "unauthorized", retry: false });
    FakeWebSocket.last.breaks(4401, "unauthorized");
    tick(600_000);
    assert.equal(FakeWebSocket.made.length, 1);
    assert.equal(await refusal(subscription.ready), "unauthorized");
    await settle();
    assert.deepEqual(events, [
      ["refused", { error: "unauthorized", retry: false }],
      ["closed", { code: 4401, reason: "unauthorized", final: true, delay: null }],
    ]);
  });

  it("that invite a retry are followed by one, with back-off", () => {
    const connection = open();
    const delays = [];
    connection.addEventListener("closed", ({ detail }) => delays.push(detail.delay));
    for (let round = 0; round < 3; round++) {
      FakeWebSocket.last.says({ is_authorized: false, error: "unavailable", retry: true });
      FakeWebSocket.last.breaks(1013);
      tick(delays.at(-1));
    }
    assert.deepEqual(delays, [1000, 2000, 4000]);
    assert.equal(FakeWebSocket.made.length, 4);
  });

  it("hold even if the server forgets to close", () => {
    const connection = open();
    FakeWebSocket.last.says({ is_authorized: false });
    tick(20_000);
    assert.equal(connection.state, "closed");
    assert.ok(FakeWebSocket.last.closed);
  });

  it("that invited a retry are forgotten when it succeeds", () => {
    const connection = open();
    FakeWebSocket.last.says({ is_authorized: false, error: "unavailable", retry: true });
    FakeWebSocket.last.breaks(1013);
    tick(1000);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.breaks(4403);
    assert.equal(connection.state, "closed");
  });

  it("cut short by close() end what waits with its word", async () => {
    const connection = open();
    const { ready } = connection.subscribe("a", ignore);
    FakeWebSocket.last.says({ is_authorized: false, error: "forbidden" });
    connection.close();
    assert.equal(await refusal(ready), "closed");
  });

  for (const code of [4401, 4403, 4040]) {
    it(`by close code ${code} alone are final`, () => {
      const connection = open();
      FakeWebSocket.last.breaks(code);
      assert.equal(connection.state, "closed");
    });
  }

  it("by 4403 are final on an authorised connection too", async () => {
    const connection = open();
    const subscription = connection.subscribe("a", ignore);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.breaks(4403);
    assert.equal(connection.state, "closed");
    assert.equal(await subscription.ended, "closed");
  });

  it("by 4401 on an authorised connection are asked about once", () => {
    const connection = open();
    FakeWebSocket.last.greets();
    FakeWebSocket.last.breaks(4401);
    assert.equal(connection.state, "waiting");
    tick(1000);
    FakeWebSocket.last.says({ is_authorized: false, error: "unauthorized", retry: false });
    FakeWebSocket.last.breaks(4401);
    assert.equal(connection.state, "closed");
    assert.equal(FakeWebSocket.made.length, 2);
  });

  it("by 4401 right after the second chance are final", () => {
    const connection = open();
    FakeWebSocket.last.greets();
    FakeWebSocket.last.breaks(4401);
    tick(1000);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.breaks(4401);
    assert.equal(connection.state, "closed");
  });

  it("by 4401 give another chance after a connection that lasted", () => {
    const connection = open();
    FakeWebSocket.last.greets();
    FakeWebSocket.last.breaks(4401);
    tick(1000);
    FakeWebSocket.last.greets();
    FakeWebSocket.last.says("pong");
    FakeWebSocket.last.breaks(4401);
    assert.equal(connection.state, "waiting");
  });
});

describe("closing", () => {
  it("ends everything, and nothing comes back", async () => {
    const connection = open();
    const events = record(connection);
    const waiting = connection.subscribe("a", ignore);
    FakeWebSocket.last.greets();
    connection.close();
    connection.close();
    assert.ok(FakeWebSocket.last.closed);
    FakeWebSocket.last.breaks(1000);
    tick(600_000);
    assert.equal(FakeWebSocket.made.length, 1);
    assert.equal(await refusal(waiting.ready), "closed");
    assert.equal(await refusal(connection.subscribe("b", ignore).ready), "closed");
    assert.equal(events.filter(([type]) => type === "closed").length, 1);
  });

  it("while waiting cancels the attempt", () => {
    const connection = open();
    FakeWebSocket.last.breaks();
    connection.close();
    tick(600_000);
    assert.equal(FakeWebSocket.made.length, 1);
  });

  it("from inside a closed event is obeyed", () => {
    const connection = open();
    connection.addEventListener("closed", () => connection.close());
    FakeWebSocket.last.breaks();
    tick(600_000);
    assert.equal(FakeWebSocket.made.length, 1);
  });
});

describe("events", () => {
  it("tell the whole life of a connection in order", async () => {
    const connection = open();
    const events = record(connection);
    await settle();
    FakeWebSocket.last.greets({ user: 5, data: { theme: "dark" } });
    FakeWebSocket.last.breaks(1012, "restart");
    tick(1000);
    await settle();
    connection.close();
    assert.deepEqual(
      events.map(([type]) => type),
      ["connecting", "open", "closed", "connecting", "closed"],
    );
    assert.equal(events[1][1].user, 5);
    assert.deepEqual(events[1][1].data, { theme: "dark" });
    assert.deepEqual(events[2][1], { code: 1012, reason: "restart", final: false, delay: 1000 });
  });

  it("leave out what is not understood", () => {
    const connection = open();
    const events = record(connection);
    FakeWebSocket.last.greets();
    const seen = events.length;
    const odd = ["", "[]", "1", "null", "{", '{"type":"publish"}', '{"code":"error"}', '{"type":"unsubscribed"}'];
    for (const text of odd) FakeWebSocket.last.says(text);
    for (const listener of FakeWebSocket.last.listeners.message) listener({ data: new ArrayBuffer(2) });
    assert.equal(events.length, seen);
    assert.equal(connection.state, "open");
  });
});

describe("the address", () => {
  const address = (url) => {
    world.opened.push(connect(url, { WebSocket: FakeWebSocket }));
    return FakeWebSocket.last.url;
  };

  it("is taken with every web scheme, and without its fragment", () => {
    assert.equal(address("https://gateway.test/ws/?token=x#here"), "wss://gateway.test/ws/?token=x");
    assert.equal(address("http://gateway.test:8100/ws/"), "ws://gateway.test:8100/ws/");
    assert.equal(address("wss://gateway.test/ws/"), "wss://gateway.test/ws/");
  });

  it("is /ws/ on the page's host by default, and paths are relative to the page", () => {
    globalThis.location = { href: "https://app.test/chat/7?x=1" };
    try {
      assert.equal(address(undefined), "wss://app.test/ws/");
      assert.equal(address("/sockets/"), "wss://app.test/sockets/");
    } finally {
      delete globalThis.location;
    }
  });

  it("that cannot be used is an error at once", () => {
    assert.throws(() => connect("not a url", { WebSocket: FakeWebSocket }), TypeError);
    assert.throws(() => connect(URL, { WebSocket: undefined }), TypeError);
  });
});
