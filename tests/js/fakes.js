import assert from "node:assert/strict";
import { afterEach, beforeEach, mock } from "node:test";

/** A scripted WebSocket: the tests are its server. */
export class FakeWebSocket {
  /** @type {FakeWebSocket[]} Every socket that was made, in order. */
  static made = [];

  static get last() {
    return this.made[this.made.length - 1];
  }

  constructor(url) {
    this.url = url;
    this.sent = [];
    this.closed = false;
    this.listeners = { open: [], message: [], close: [] };
    FakeWebSocket.made.push(this);
  }

  addEventListener(type, listener) {
    this.listeners[type].push(listener);
  }

  send(text) {
    this.sent.push(text);
  }

  close() {
    this.closed = true; // like a dead network: no close event follows by itself
  }

  /** What was sent, decoded; pings stay text. */
  get requests() {
    return this.sent.map((text) => (text.startsWith("{") ? JSON.parse(text) : text));
  }

  /** The server says something: text as it is, anything else as JSON. */
  says(message) {
    const data = typeof message === "string" ? message : JSON.stringify(message);
    for (const listener of this.listeners.message) listener({ data });
  }

  /** The handshake is done; a gateway has not yet spoken. */
  opens() {
    for (const listener of this.listeners.open) listener({});
  }

  /** A gateway lets the client in. */
  greets(more = {}) {
    this.says({ is_authorized: true, version: 1, allowed_rooms: [], ping: 25, ...more });
  }

  /** The server closes, or the network breaks. */
  breaks(code = 1006, reason = "") {
    for (const listener of this.listeners.close) listener({ code, reason });
  }
}

/** What the tests of one file share. */
export const world = {
  /** The random number that every delay is made with; 1 gives the longest delay. */
  random: 1,
  /** What is to be closed after the test. */
  opened: [],
};

/** Give every test of a file new sockets and its own clock, and let no rejection pass unseen. */
export function isolate() {
  let rejections;
  const onRejection = (error) => rejections.push(error);
  beforeEach(() => {
    FakeWebSocket.made = [];
    Object.assign(world, { random: 1, opened: [] });
    rejections = [];
    mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
    mock.method(Math, "random", () => world.random);
    process.on("unhandledRejection", onRejection);
  });
  afterEach(async () => {
    for (const each of world.opened) each.close();
    mock.timers.reset();
    mock.restoreAll();
    await settle();
    process.off("unhandledRejection", onRejection);
    assert.deepEqual(rejections, [], "a promise was rejected and nobody had to look");
  });
}

/** Let time pass in small steps: a timer set by a timer counts from the end of the step it is set in. */
export function tick(milliseconds) {
  for (let left = milliseconds; left > 0; left -= 500) mock.timers.tick(Math.min(left, 500));
}

/** The error that a promise was rejected with. */
export const failure = (promise) =>
  promise.then(
    () => assert.fail("was not rejected"),
    (error) => error,
  );

/** Let promises settle. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** Collect what a connection dispatches, as [type, detail]. */
export function record(connection) {
  const events = [];
  for (const type of ["connecting", "open", "refused", "closed", "subscribed", "unsubscribed", "publication"]) {
    connection.addEventListener(type, ({ detail }) => events.push([type, detail]));
  }
  return events;
}
