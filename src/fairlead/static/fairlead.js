// @ts-check
/**
 * The browser client of a Fairlead gateway: rooms over one WebSocket that mends itself.
 *
 *     import { connect } from "https://sockets.example.org/fairlead.js";
 *
 *     const connection = connect();
 *     const subscription = connection.subscribe({ room: 7 }, (data) => show(data));
 *     await subscription.ready;            // or an Error whose message is the server's word: "room-not-found"
 *     subscription.unsubscribe();
 *
 * Rules it keeps:
 *  - Subscribing never waits for the connection. What you subscribed to is kept, and asked for whenever a connection
 *    opens: once per connection, and only what you have not unsubscribed meanwhile.
 *  - A lost connection is made again, after a random time whose bound doubles with every failure. What was published
 *    in between is gone: on every "subscribed" event, fetch what you must not miss.
 *  - A refusal is final, with one exception: after a 4401 on a connection that had been authorised it asks once more,
 *    because the session may have been renewed. After the final "closed" event, a login say, call connect() again.
 *
 * Runs in browsers, in workers and on Node.js 22 or newer (older ones: give a class in `options.WebSocket`).
 */

/** @typedef {string | {[key: string]: string | number | boolean | null}} Room */
/** @typedef {(data: any, room: Room) => void} Callback */
/** @typedef {"connecting" | "open" | "waiting" | "closed"} State */

/**
 * @typedef {object} Options  Times are milliseconds.
 * @property {number} [firstDelay]        Bound of the wait before the first reconnect; doubles with each failure. 1,000
 * @property {number} [maxDelay]          The bound never grows past this. 30,000: the end of an outage is soon noticed
 * @property {number} [connectTimeout]    From the attempt to the server's first message. 20,000: the gateway may spend
 *                                        13 s on asking the API
 * @property {number} [pongTimeout]       From a ping to any message, before the connection counts as dead. 10,000
 * @property {number} [maxSubscriptions]  Past it a subscription ends with "too-many-subscriptions". 2,000: the
 *                                        gateway's own limit
 * @property {typeof WebSocket} [WebSocket]  The class to use instead of the global one
 */

/**
 * @typedef {object} Subscription
 * @property {Room} room               The room as it was asked for
 * @property {Promise<void>} ready     Resolves when the server lets you in; rejects with an Error whose message is the
 *                                     word why not. Looking at it is optional
 * @property {Promise<string>} ended   Resolves with the reason when the subscription is over: "unsubscribed",
 *                                     "revoked", "closed", an error word
 * @property {() => void} unsubscribe  Ends it: the callback is not called again. A second call does nothing
 */

/**
 * @typedef {object} Entry  What a connection remembers of a subscription.
 * @property {Subscription} subscription
 * @property {Callback} callback
 * @property {string} request  The message that asks for it
 * @property {boolean} joined  Whether it was in at least once
 * @property {() => void} accept
 * @property {(reason: string) => void} end
 */

/** Close codes after which the same request would get the same answer. */
const FINAL = new Set([4040, 4401, 4403]);
const UNAUTHORIZED = 4401;
const LOST = 1006;
const DEFAULT_PING = 25; // seconds

/**
 * Open a connection that stays.
 *
 * @param {string | URL} [url]  ws:, wss:, http: or https:, or a path on the page's host. Without it: `/ws/` on the host
 *                              that this module was loaded from, or else the page.
 * @param {Options} [options]
 * @throws {SyntaxError | TypeError}  The URL cannot be used, or there is no WebSocket class.
 */
export function connect(url, options = {}) {
  return new Connection(url, options);
}

/**
 * A connection to the gateway, and to its successor when it breaks.
 *
 * Events, each a CustomEvent:
 *  - `connecting`: an attempt begins.
 *  - `open`: the server let us in. `detail` is its first message: `user`, `allowed_rooms`, `data`, …
 *  - `refused`: it did not. `detail`: `{error, retry}`; error is "unauthorized", "forbidden" or "unavailable".
 *  - `closed`: the connection or the attempt is over. `detail`: `{code, reason, final, delay}`; unless `final`, the
 *    next attempt begins in `delay` milliseconds.
 *  - `subscribed`: the server let us into a room, for the first time or again. `detail`: `{subscription, room}`; what is
 *    published from now on arrives.
 *  - `unsubscribed`: the server ended a subscription. `detail`: `{subscription, room, reason}`; without a subscription
 *    it was a room that the API had joined for us.
 *  - `publication`: something was published to such a room. `detail`: `{room, data}`.
 */
export class Connection extends EventTarget {
  #url;
  #options;
  /** @type {State} */ #state = "connecting";
  /** @type {WebSocket | undefined} */ #socket;
  /** @type {Map<unknown, Entry>} */ #entries = new Map();
  #lastId = 0;
  #failures = 0; // attempts, and connections that did not last, in a row
  #mayReturn = true; // whether a 4401 may be answered with one more attempt
  /** @type {{error: string, retry: boolean} | undefined} */ #refusal;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #deadline; // runs while the server owes us a message
  /** @type {ReturnType<typeof setInterval> | undefined} */ #pings;
  #listening = new AbortController();

  /**
   * @param {string | URL | undefined} url
   * @param {Options} options
   */
  constructor(url, options) {
    super();
    this.#url = resolve(url);
    this.#options = {
      firstDelay: 1000,
      maxDelay: 30_000,
      connectTimeout: 20_000,
      pongTimeout: 10_000,
      maxSubscriptions: 2000,
      WebSocket: globalThis.WebSocket,
      ...options,
    };
    this.#connect();
    this.#listen();
  }

  /** "connecting", "open", "waiting" for the next attempt, or "closed" for good. */
  get state() {
    return this.#state;
  }

  /**
   * Receive what is published to a room, from now on and after every reconnect. Several subscriptions to one room are
   * independent of each other.
   *
   * @param {Room} room
   * @param {Callback} callback  Called with the published data and the room.
   * @returns {Subscription}
   */
  subscribe(room, callback) {
    const id = ++this.#lastId;
    const request = JSON.stringify({ type: "subscribe", room, requestId: id });
    const entry = remember(room, callback, request, () => this.#unsubscribe(id));
    if (this.#state === "closed") {
      entry.end("closed");
    } else if (this.#entries.size >= this.#options.maxSubscriptions) {
      entry.end("too-many-subscriptions");
    } else {
      this.#entries.set(id, entry);
      if (this.#state === "open") this.#socket?.send(request);
    }
    return entry.subscription;
  }

  /** @param {number} id */
  #unsubscribe(id) {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#entries.delete(id);
    if (this.#state === "open") this.#socket?.send(JSON.stringify({ type: "unsubscribe", requestId: id }));
    entry.end("unsubscribed");
  }

  /** Close for good: every subscription ends with "closed", and nothing comes back. */
  close() {
    if (this.#state !== "closed") this.#finish(1000, "closed by the page", "closed");
  }

  // The connection comes and goes.

  #connect() {
    this.#release();
    this.#state = "connecting";
    this.#refusal = undefined;
    const socket = new this.#options.WebSocket(this.#url);
    const current = () => this.#socket === socket; // a socket that we gave up may still speak, much later
    socket.addEventListener("message", ({ data }) => current() && this.#received(data));
    socket.addEventListener("close", ({ code, reason }) => current() && this.#lost(code, reason));
    this.#socket = socket;
    this.#expect("the server did not answer in time", this.#options.connectTimeout);
    // Later, so that whoever called connect() can add a listener first.
    queueMicrotask(() => current() && this.#emit("connecting"));
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    if (!this.#invites(code)) return this.#finish(code, reason, this.#refusal?.error ?? "closed");
    const { firstDelay, maxDelay } = this.#options;
    const delay = Math.random() * Math.min(maxDelay, firstDelay * 2 ** this.#failures++);
    this.#release();
    this.#state = "waiting";
    this.#retry = setTimeout(() => this.#connect(), delay);
    this.#emit("closed", { code, reason, final: false, delay });
  }

  /** Whether to come back after this end. @param {number} code */
  #invites(code) {
    if (this.#refusal) return this.#refusal.retry;
    if (code !== UNAUTHORIZED) return !FINAL.has(code);
    const again = this.#state === "open" && this.#mayReturn;
    this.#mayReturn = false;
    return again;
  }

  /** @param {number} code @param {string} reason @param {string} word  What the subscriptions end with. */
  #finish(code, reason, word) {
    this.#release();
    this.#listening.abort();
    this.#state = "closed";
    for (const entry of this.#entries.values()) entry.end(word);
    this.#entries.clear();
    this.#emit("closed", { code, reason, final: true, delay: null });
  }

  /** Let go of socket and timers at once: a dead socket takes minutes to notice that it was closed. */
  #release() {
    clearTimeout(this.#retry);
    clearInterval(this.#pings);
    this.#arrived();
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }

  // Is the other side still there?

  /** When the network or the user comes back, do not wait out a delay, and do not trust an old connection. */
  #listen() {
    const wake = () => {
      if (this.#state === "waiting") this.#connect();
      else if (this.#state === "open") this.#ping();
    };
    const { signal } = this.#listening;
    globalThis.addEventListener?.("online", wake, { signal });
    const page = globalThis.document;
    page?.addEventListener("visibilitychange", () => page.visibilityState === "visible" && wake(), { signal });
  }

  #ping() {
    this.#socket?.send("ping");
    this.#expect("the server does not answer", this.#options.pongTimeout);
  }

  /** @param {string} complaint @param {number} timeout */
  #expect(complaint, timeout) {
    this.#deadline ??= setTimeout(() => this.#lost(LOST, complaint), timeout);
  }

  #arrived() {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
  }

  // What the server says.

  /** @param {unknown} data */
  #received(data) {
    const message = parse(data);
    if (this.#state === "connecting") return message && this.#greeted(message);
    this.#arrived();
    const entry = this.#entries.get(message?.requestId);
    if (data === "pong") {
      // Only a connection that lasts ends a row of failures: one that opens and breaks at once is another of them.
      this.#failures = 0;
      this.#mayReturn = true;
    } else if (message?.type === "publish") {
      if (entry) entry.callback(message.data, message.room);
      else if (message.requestId === null) this.#emit("publication", { room: message.room, data: message.data });
    } else if (message?.type === "unsubscribed") {
      if (entry || message.requestId === null) this.#ended(message.requestId, message.room, message.reason);
    } else if (message?.code === "success" && entry) {
      entry.accept();
      this.#emit("subscribed", { subscription: entry.subscription, room: entry.subscription.room });
    } else if (message?.code === "error" && entry) {
      if (entry.joined && message.message === "unavailable") this.#askAgain(message.requestId, entry);
      else this.#ended(message.requestId, entry.subscription.room, message.message);
    }
  }

  /** The first message: in or refused. After a refusal the server closes. @param {{[key: string]: any}} hello */
  #greeted(hello) {
    if (hello.is_authorized === false) {
      this.#refusal = { error: String(hello.error ?? "unauthorized"), retry: hello.retry === true };
      return this.#emit("refused", { ...this.#refusal });
    }
    this.#arrived();
    this.#state = "open";
    const seconds = hello.ping > 0 ? Math.min(hello.ping, 3600) : DEFAULT_PING;
    this.#pings = setInterval(() => this.#ping(), seconds * 1000);
    for (const { request } of this.#entries.values()) this.#socket?.send(request);
    this.#emit("open", hello);
  }

  /** @param {unknown} id @param {Room} room @param {string} reason */
  #ended(id, room, reason) {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    entry?.end(reason);
    if (entry?.joined ?? true) this.#emit("unsubscribed", { subscription: entry?.subscription, room, reason });
  }

  /** It was in before the connection broke and the server cannot say now. @param {unknown} id @param {Entry} entry */
  #askAgain(id, entry) {
    const socket = this.#socket;
    const wanted = () => socket === this.#socket && this.#entries.has(id);
    setTimeout(() => wanted() && socket?.send(entry.request), Math.random() * this.#options.maxDelay);
  }

  /** @param {string} type @param {object} [detail] */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * @param {Room} room
 * @param {Callback} callback
 * @param {string} request
 * @param {() => void} unsubscribe
 * @returns {Entry}
 */
function remember(room, callback, request, unsubscribe) {
  const ready = deferred();
  const ended = deferred();
  ready.promise.catch(() => {}); // whoever does not look at it shall not get an unhandled rejection
  const subscription = { room, ready: ready.promise, ended: ended.promise, unsubscribe };
  return {
    subscription,
    callback,
    request,
    joined: false,
    accept() {
      this.joined = true;
      ready.resolve(undefined);
    },
    end(reason) {
      ready.reject(new Error(reason)); // does nothing once it was in
      ended.resolve(reason);
    },
  };
}

/** @returns {{promise: Promise<any>, resolve: (value: any) => void, reject: (error: Error) => void}} */
function deferred() {
  const parts = /** @type {any} */ ({});
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
  return parts;
}

/** Undefined for what is not a JSON object. @param {unknown} data @returns {{[key: string]: any} | undefined} */
function parse(data) {
  if (typeof data !== "string" || !data.startsWith("{")) return undefined;
  try {
    return JSON.parse(data);
  } catch {
    return undefined;
  }
}

/** @param {string | URL} [url] */
function resolve(url) {
  const page = globalThis.location?.href;
  const here = import.meta.url.startsWith("http") ? import.meta.url : page; // a bundler may have made it a file: URL
  const resolved = url === undefined ? new URL("/ws/", here) : new URL(url, page);
  resolved.protocol = resolved.protocol.replace("http", "ws");
  resolved.hash = "";
  return resolved.href;
}
