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
    this.listeners = { message: [], close: [] };
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

  /** The server lets the client in. */
  greets(more = {}) {
    this.says({ is_authorized: true, version: 1, allowed_rooms: [], ping: 25, ...more });
  }

  /** The server closes, or the network breaks. */
  breaks(code = 1006, reason = "") {
    for (const listener of this.listeners.close) listener({ code, reason });
  }
}

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
