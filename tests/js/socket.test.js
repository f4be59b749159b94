import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { socket } from "../../src/fairlead/static/fairlead.js";
import { FakeWebSocket, isolate, tick, world } from "./fakes.js";

const make = (options = {}) => {
  const made = socket("ws://app.test/echo", { WebSocket: FakeWebSocket, ...options });
  world.opened.push(made);
  return made;
};

isolate();

describe("a plain socket", () => {
  it("tells every message as it came", () => {
    const got = [];
    make().addEventListener("message", ({ data }) => got.push(data));
    const bytes = new ArrayBuffer(2);
    FakeWebSocket.last.opens();
    FakeWebSocket.last.says("pong");
    for (const listener of FakeWebSocket.last.listeners.message) listener({ data: bytes });
    assert.deepEqual(got, ["pong", bytes]);
    assert.equal(FakeWebSocket.last.binaryType, "arraybuffer");
  });

  it("sends while it is open, and says when it did not", () => {
    const plain = make();
    assert.equal(plain.send("early"), false);
    FakeWebSocket.last.opens();
    assert.equal(plain.send("now"), true);
    FakeWebSocket.last.breaks();
    assert.equal(plain.send("late"), false);
    assert.deepEqual(FakeWebSocket.last.sent, ["now"]);
  });

  it("comes back by itself, and soon after a connection that lasted", () => {
    const plain = make();
    const delays = [];
    plain.addEventListener("closed", ({ detail }) => delays.push(detail.delay));
    for (const time of [0, 0, 25_000]) {
      FakeWebSocket.last.opens();
      tick(time);
      FakeWebSocket.last.breaks(1000);
      tick(delays.at(-1));
    }
    assert.deepEqual(delays, [1000, 2000, 1000]);
    assert.equal(FakeWebSocket.made.length, 4);
  });

  it("does not ping unless it is told that the handler answers", () => {
    make();
    FakeWebSocket.last.opens();
    tick(600_000);
    assert.deepEqual(FakeWebSocket.last.sent, []);

    const watched = make({ pingInterval: 5000 });
    const got = [];
    watched.addEventListener("message", ({ data }) => got.push(data));
    FakeWebSocket.last.opens();
    tick(5000);
    FakeWebSocket.last.says("pong");
    tick(5000);
    assert.deepEqual(FakeWebSocket.last.sent, ["ping", "ping"]);
    assert.deepEqual(got, []);
    tick(10_000);
    assert.equal(watched.state, "waiting");
  });

  it("is refused for good by 4403", () => {
    const plain = make();
    FakeWebSocket.last.opens();
    FakeWebSocket.last.breaks(4403);
    tick(600_000);
    assert.equal(plain.state, "closed");
    assert.equal(FakeWebSocket.made.length, 1);
  });
});
