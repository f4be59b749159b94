// @ts-check
/**
 * The browser client of Fairlead: WebSockets that mend themselves. Rooms of a gateway,
 *
 *     import { connect } from "https://sockets.example.org/fairlead.js";
 *
 *     const connection = connect();
 *     const subscription = connection.subscribe({ room: 7 }, (data) => show(data));
 *     await subscription.ready;            // or an Error whose message is the server's word: "room-not-found"
 *     subscription.unsubscribe();
 *
 * functions of an application, called in both directions as JSON-RPC 2.0,
 *
 *     import { calls } from "/fairlead.js";
 *
 *     const caller = calls("/ws/");
 *     await caller.call("add", 1, 2);
 *     for await (const value of caller.stream("ticks", 3)) show(value);
 *     caller.handle("confirm", (question) => ask(question));
 *
 * and `socket()` for whatever else is spoken.
 *
 * Rules that all keep:
 *  - A lost connection is made again, after a random time whose bound doubles with every failure, and at once when the
 *    network or the user comes back.
 *  - A refusal is final, with one exception: after a 4401 on a connection that had been let in it asks once more,
 *    because the session may have been renewed. After the final "closed" event, a login say, begin anew.
 *
 * Rules for rooms:
 *  - Subscribing never waits for the connection. What you subscribed to is kept, and asked for whenever a connection
 *    opens: once per connection, and only what you have not unsubscribed meanwhile.
 *  - What was published while there was no connection is gone: on every "subscribed" event, fetch what you must not
 *    miss.
 *
 * Rules for calls:
 *  - A call waits for the connection, and is sent at most once. If the connection breaks before the answer, nobody
 *    knows whether it was carried out: it ends with `Unanswered`, and whether to repeat it is yours to decide.
 *
 * Runs in browsers, in workers and on Node.js 22 or newer (older ones: give a class in `options.WebSocket`).
 */

/** @typedef {string | {[key: string]: string | number | boolean | null}} Room */
/** @typedef {(data: any, room: Room) => void} Callback */
/** @typedef {"connecting" | "open" | "waiting" | "closed"} State */

/**
 * @typedef {object} SocketOptions  Times are milliseconds.
 * @property {number} [firstDelay]      Bound of the wait before the first reconnect; doubles with each failure. 1,000
 * @property {number} [maxDelay]        The bound never grows past this. 30,000: the end of an outage is soon noticed
 * @property {number} [connectTimeout]  From the attempt to being let in. 20,000: a gateway may spend 13 s on asking the
 *                                      API
 * @property {number} [pingInterval]    Between texts "ping" to the server, which must answer "pong"; 0: none. calls():
 *                                      25,000. connect(): as the gateway wishes. socket(): 0, because a handler answers
 *                                      only what it was written to; a dead network then shows only when something is
 *                                      sent, minutes later
 * @property {number} [pongTimeout]     From a ping to any message, before the connection counts as dead. 10,000
 * @property {typeof WebSocket} [WebSocket]  The class to use instead of the global one
 */

/**
 * @typedef {object} RoomOptions
 * @property {number} [maxSubscriptions]  Past it a subscription ends with "too-many-subscriptions". 2,000: the
 *                                        gateway's own limit
 */
/** @typedef {SocketOptions & RoomOptions} Options */

/**
 * @typedef {object} WaitOptions
 * @property {number} [maxRunning]  Calls that run at once; more wait for their turn. 16: half of what a server carries
 *                                  out for one client, the rest is for streams and notifications
 * @property {number} [maxWaiting]  Calls and notifications that wait for a connection or their turn. 1,000
 * @property {number} [timeout]     For every call that is not given its own. 0: no limit
 */
/** @typedef {SocketOptions & WaitOptions} CallerOptions */

/**
 * @typedef {object} CallOptions
 * @property {number} [timeout]      Milliseconds without a word on the call, waiting for a connection included, before
 *                                   it is given up with a "TimeoutError" DOMException. 0: no limit. In a stream the
 *                                   time begins anew with every value
 * @property {AbortSignal} [signal]  Gives the call up with the signal's reason
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

/**
 * @typedef {object} Asker  Who waits for the answer to a request: a promise or a stream.
 * @property {(value: any) => void} progress
 * @property {(result: any) => void} answer
 * @property {(error: any) => void} fail
 */

/**
 * @typedef {object} Watch  Over one request: its timeout and its signal.
 * @property {() => void} heard
 * @property {() => void} stop
 */

/** Close codes after which the same request would get the same answer. */
const FINAL = new Set([4040, 4401, 4403]);
const UNAUTHORIZED = 4401;
const LOST = 1006;
const DEFAULT_PING = 25_000; // milliseconds

/** Error codes of JSON-RPC 2.0. */
const METHOD_NOT_FOUND = -32601;
const INTERNAL_ERROR = -32603;

const OUTCOME_UNKNOWN = "the connection ended before the answer: whether the call was carried out is unknown";
const CLOSED = "the connection is closed: the call was not sent";
const TOO_MANY = "too many calls wait: the call was not sent";

/**
 * Open a connection to a gateway that stays.
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
 * Call functions of an application, and let it call yours, over a connection that stays.
 *
 * @param {string | URL} [url]  As for connect().
 * @param {CallerOptions} [options]
 * @throws {SyntaxError | TypeError}  As connect().
 */
export function calls(url, options = {}) {
  return new Caller(url, options);
}

/**
 * A plain WebSocket that comes back by itself, for handlers with a language of their own.
 *
 * @param {string | URL} [url]  As for connect().
 * @param {SocketOptions} [options]
 * @throws {SyntaxError | TypeError}  As connect().
 */
export function socket(url, options = {}) {
  return new Socket(url, options);
}

/**
 * A call failed, and the other side says why: it is what a call rejects with, and what a function given to handle()
 * throws to say so itself.
 */
export class CallError extends Error {
  /**
   * @param {number} code     -32768 to -32000 are the protocol's; the rest is free.
   * @param {string} message
   * @param {any} [data]      More about it, as JSON.
   */
  constructor(code, message, data) {
    super(message);
    this.name = "CallError";
    this.code = code;
    this.data = data;
  }
}

/** A call ended without an answer. It is never repeated for you. */
export class Unanswered extends Error {
  /**
   * @param {string} message
   * @param {boolean} sent  false: the server never saw the call. true: whether it was carried out is unknown.
   */
  constructor(message, sent) {
    super(message);
    this.name = "Unanswered";
    this.sent = sent;
  }
}

/**
 * A WebSocket to one address, and its successor when it breaks.
 *
 * It knows when to come back and whether the other side is still there. What is said, and which word lets us in, is its
 * subclass's: that is what the methods with an underscore are for.
 */
class Line extends EventTarget {
  #url;
  /** @type {State} */ #state = "connecting";
  /** @type {WebSocket | undefined} */ #socket;
  #failures = 0; // attempts, and connections that did not last, in a row
  #mayReturn = true; // whether a 4401 may be answered with one more attempt
  #pingInterval = 0; // milliseconds; 0: the other side does not answer pings
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #deadline; // runs while the server owes us a message
  /** @type {ReturnType<typeof setInterval> | undefined} */ #beats;
  #listening = new AbortController();

  /**
   * @param {string | URL | undefined} url
   * @param {SocketOptions} options
   */
  constructor(url, options) {
    super();
    this.#url = resolve(url);
    /** @protected */
    this._options = {
      firstDelay: 1000,
      maxDelay: 30_000,
      connectTimeout: 20_000,
      pingInterval: 0,
      pongTimeout: 10_000,
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

  /** Close for good: nothing comes back. */
  close() {
    if (this.#state !== "closed") this.#finish(1000, "closed by the page");
  }

  // What a subclass hears and says.

  /** The WebSocket is there. Whoever needs no further word enters now. @protected */
  _accepted() {}

  /** A message came, before or after we were let in. @protected @param {unknown} data */
  _received(data) {}

  /** The connection or the attempt is over; the "closed" event follows. @protected @param {boolean} final */
  _ended(final) {}

  /** Whether to come back after this end. @protected @param {number} code @returns {boolean} */
  _invites(code) {
    if (code !== UNAUTHORIZED) return !FINAL.has(code);
    const again = this.#state === "open" && this.#mayReturn;
    this.#mayReturn = false;
    return again;
  }

  /** We were let in. @protected */
  _enter(pingInterval = this._options.pingInterval) {
    this.#arrived();
    this.#state = "open";
    this.#pingInterval = pingInterval;
    this.#beats = setInterval(() => this.#beat(), pingInterval || DEFAULT_PING);
  }

  /** False, and nothing was sent, unless the connection is open. @protected @param {string | BufferSource | Blob} data */
  _send(data) {
    if (this.#state !== "open") return false;
    this.#socket?.send(/** @type {any} */ (data));
    return true;
  }

  /** A way to send on this very connection: its successor knows nothing of what was asked here. @protected */
  _sender() {
    const socket = this.#socket;
    return (/** @type {string} */ text) => socket === this.#socket && this._send(text);
  }

  /** @protected @param {string} type @param {object} [detail] */
  _emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // The connection comes and goes.

  #connect() {
    this.#release();
    this.#state = "connecting";
    const socket = new this._options.WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    const current = () => this.#socket === socket; // a socket that we gave up may still speak, much later
    socket.addEventListener("open", () => current() && this._accepted());
    socket.addEventListener("message", ({ data }) => current() && this.#heard(data));
    socket.addEventListener("close", ({ code, reason }) => current() && this.#lost(code, reason));
    this.#socket = socket;
    this.#expect("the server did not answer in time", this._options.connectTimeout);
    // Later, so that whoever made this can add a listener first.
    queueMicrotask(() => current() && this._emit("connecting"));
  }

  /** @param {number} code @param {string} reason */
  #lost(code, reason) {
    if (!this._invites(code)) return this.#finish(code, reason);
    const { firstDelay, maxDelay } = this._options;
    const delay = Math.random() * Math.min(maxDelay, firstDelay * 2 ** this.#failures++);
    this.#release();
    this.#state = "waiting";
    this.#retry = setTimeout(() => this.#connect(), delay);
    this._ended(false);
    this._emit("closed", { code, reason, final: false, delay });
  }

  /** @param {number} code @param {string} reason */
  #finish(code, reason) {
    this.#release();
    this.#listening.abort();
    this.#state = "closed";
    this._ended(true);
    this._emit("closed", { code, reason, final: true, delay: null });
  }

  /** Let go of socket and timers at once: a dead socket takes minutes to notice that it was closed. */
  #release() {
    clearTimeout(this.#retry);
    clearInterval(this.#beats);
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
      else if (this.#pingInterval) this.#ping();
    };
    const { signal } = this.#listening;
    globalThis.addEventListener?.("online", wake, { signal });
    const page = globalThis.document;
    page?.addEventListener("visibilitychange", () => page.visibilityState === "visible" && wake(), { signal });
  }

  #beat() {
    if (this.#pingInterval) this.#ping();
    else this.#lasted();
  }

  #ping() {
    if (this._send("ping")) this.#expect("the server does not answer", this._options.pongTimeout);
  }

  /** @param {string} complaint @param {number} timeout */
  #expect(complaint, timeout) {
    this.#deadline ??= setTimeout(() => this.#lost(LOST, complaint), timeout);
  }

  #arrived() {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
  }

  /** Only a connection that lasts ends a row of failures: one that opens and breaks at once is another of them. */
  #lasted() {
    this.#failures = 0;
    this.#mayReturn = true;
  }

  /** @param {unknown} data */
  #heard(data) {
    if (this.#state === "open") this.#arrived();
    if (this.#state === "open" && this.#pingInterval && data === "pong") this.#lasted();
    else this._received(data);
  }
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
export class Connection extends Line {
  #maxSubscriptions;
  /** @type {Map<unknown, Entry>} */ #entries = new Map();
  #lastId = 0;
  /** @type {{error: string, retry: boolean} | undefined} */ #refusal;

  /**
   * @param {string | URL | undefined} url
   * @param {Options} options
   */
  constructor(url, { maxSubscriptions = 2000, ...options }) {
    super(url, options);
    this.#maxSubscriptions = maxSubscriptions;
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
    if (this.state === "closed") {
      entry.end("closed");
    } else if (this.#entries.size >= this.#maxSubscriptions) {
      entry.end("too-many-subscriptions");
    } else {
      this.#entries.set(id, entry);
      this._send(request);
    }
    return entry.subscription;
  }

  /** @param {number} id */
  #unsubscribe(id) {
    const entry = this.#entries.get(id);
    if (!entry) return;
    this.#entries.delete(id);
    this._send(JSON.stringify({ type: "unsubscribe", requestId: id }));
    entry.end("unsubscribed");
  }

  /** Close for good: every subscription ends with "closed", and nothing comes back. @override */
  close() {
    this.#refusal = undefined;
    super.close();
  }

  // What the server says.

  /** @protected @override @param {unknown} data */
  _received(data) {
    const message = parse(data);
    if (this.state === "connecting") return message && this.#greeted(message);
    const entry = this.#entries.get(message?.requestId);
    if (message?.type === "publish") {
      if (entry) entry.callback(message.data, message.room);
      else if (message.requestId === null) this._emit("publication", { room: message.room, data: message.data });
    } else if (message?.type === "unsubscribed") {
      if (entry || message.requestId === null) this.#left(message.requestId, message.room, message.reason);
    } else if (message?.code === "success" && entry) {
      entry.accept();
      this._emit("subscribed", { subscription: entry.subscription, room: entry.subscription.room });
    } else if (message?.code === "error" && entry) {
      if (entry.joined && message.message === "unavailable") this.#askAgain(message.requestId, entry);
      else this.#left(message.requestId, entry.subscription.room, message.message);
    }
  }

  /** The first message: in or refused. After a refusal the server closes. @param {{[key: string]: any}} hello */
  #greeted(hello) {
    if (hello.is_authorized === false) {
      this.#refusal = { error: String(hello.error ?? "unauthorized"), retry: hello.retry === true };
      return this._emit("refused", { ...this.#refusal });
    }
    this._enter(hello.ping > 0 ? Math.min(hello.ping, 3600) * 1000 : DEFAULT_PING);
    for (const { request } of this.#entries.values()) this._send(request);
    this._emit("open", hello);
  }

  /** @param {unknown} id @param {Room} room @param {string} reason */
  #left(id, room, reason) {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    entry?.end(reason);
    if (entry?.joined ?? true) this._emit("unsubscribed", { subscription: entry?.subscription, room, reason });
  }

  /** It was in before the connection broke and the server cannot say now. @param {unknown} id @param {Entry} entry */
  #askAgain(id, entry) {
    const send = this._sender();
    setTimeout(() => this.#entries.has(id) && send(entry.request), Math.random() * this._options.maxDelay);
  }

  /** @protected @override @param {number} code */
  _invites(code) {
    return this.#refusal ? this.#refusal.retry : super._invites(code);
  }

  /** @protected @override @param {boolean} final */
  _ended(final) {
    const word = this.#refusal?.error ?? "closed";
    this.#refusal = undefined;
    if (!final) return;
    for (const entry of this.#entries.values()) entry.end(word);
    this.#entries.clear();
  }
}

/**
 * Calls in both directions over one connection, and over its successor when it breaks: JSON-RPC 2.0.
 *
 * A call rejects with
 *  - `CallError`, if the server answers that it failed;
 *  - `Unanswered`, if the connection breaks first, or there is none and never will be;
 *  - a "TimeoutError" or the reason of a signal, if you gave up on it: see with().
 *
 * Events, each a CustomEvent: `connecting`, `open` (without `detail`) and `closed` as a Connection has them, and
 *  - `publication`: something was published to a room that the server has put us into. `detail`: `{room, data}`. After
 *    a lost connection the server must put us there again.
 */
export class Caller extends Line {
  #maxRunning;
  #maxWaiting;
  #timeout;
  #lastId = 0;
  /** @type {Map<unknown, {asker: Asker, watch: Watch}>} */ #requests = new Map(); // which still have no answer
  /** @type {Map<unknown, string>} */ #waiting = new Map(); // messages that are not sent yet, oldest first
  /** @type {Set<unknown>} */ #running = new Set(); // calls that are sent: those that others wait for
  /** @type {Map<string, (...args: any[]) => any>} */ #handlers = new Map();

  /**
   * @param {string | URL | undefined} url
   * @param {CallerOptions} options
   */
  constructor(url, { maxRunning = 16, maxWaiting = 1000, timeout = 0, ...options }) {
    super(url, { pingInterval: DEFAULT_PING, ...options });
    this.#maxRunning = maxRunning;
    this.#maxWaiting = maxWaiting;
    this.#timeout = timeout;
  }

  /**
   * Call a function on the server with arguments by position; the promise is its answer.
   *
   * @param {string} name
   * @param {...any} args  As JSON: what has no JSON form throws.
   * @returns {Promise<any>}
   */
  call(name, ...args) {
    return this.#call(name, args, {});
  }

  /** The same with arguments by name. @param {string} name @param {{[key: string]: any}} args @returns {Promise<any>} */
  callNamed(name, args) {
    return this.#call(name, args, {});
  }

  /**
   * Call a function on the server that yields values: `for await (const value of caller.stream("ticks", 3))`.
   *
   * Nothing is sent before the first value is asked for. Leaving the loop, or return() at any time, cancels it on the
   * server. Values that come faster than you read them are kept.
   *
   * @param {string} name
   * @param {...any} args
   * @returns {AsyncIterableIterator<any>}
   */
  stream(name, ...args) {
    return this.#stream(name, args, {});
  }

  /**
   * The same with arguments by name.
   *
   * @param {string} name
   * @param {{[key: string]: any}} args
   * @returns {AsyncIterableIterator<any>}
   */
  streamNamed(name, args) {
    return this.#stream(name, args, {});
  }

  /**
   * Tell the server something, without an answer.
   *
   * @param {string} name
   * @param {...any} args
   * @returns {boolean}  Whether it was sent, or waits for the connection. False: closed for good, or too many wait.
   */
  notify(name, ...args) {
    return this.#post(++this.#lastId, encode({ method: name, params: args }));
  }

  /** The same with arguments by name. @param {string} name @param {{[key: string]: any}} args @returns {boolean} */
  notifyNamed(name, args) {
    return this.#post(++this.#lastId, encode({ method: name, params: args }));
  }

  /**
   * The ways to call, with a limit: `caller.with({ timeout: 500 }).call("add", 1, 2)`. A call that is given up is
   * cancelled on the server, which may have carried it out.
   *
   * @param {CallOptions} options
   * @returns {Pick<Caller, "call" | "callNamed" | "stream" | "streamNamed">}
   */
  with(options) {
    return {
      call: (name, ...args) => this.#call(name, args, options),
      callNamed: (name, args) => this.#call(name, args, options),
      stream: (name, ...args) => this.#stream(name, args, options),
      streamNamed: (name, args) => this.#stream(name, args, options),
    };
  }

  /**
   * Let the server call a function of yours, or notify it.
   *
   * @param {string} name
   * @param {(...args: any[]) => any} handler  Gets arguments by position as such, those by name as one object. The
   *                                           server gets what it returns or resolves with. A CallError that it throws
   *                                           is told to the server; of any other it learns only that there was one,
   *                                           and the error is reported on the page.
   */
  handle(name, handler) {
    this.#handlers.set(name, handler);
  }

  // What we ask.

  /** @param {string} method @param {object} params @param {CallOptions} options @returns {Promise<any>} */
  #call(method, params, options) {
    return new Promise((answer, fail) => {
      this.#ask(method, params, options, { progress() {}, answer, fail });
    });
  }

  /** @param {string} method @param {object} params @param {CallOptions} options */
  #stream(method, params, options) {
    return new Stream((asker) => this.#ask(method, params, options, asker));
  }

  /**
   * @param {string} method
   * @param {object} params
   * @param {CallOptions} options
   * @param {Asker} asker
   * @returns {(reason: any) => void}  Gives the request up, and tells the server and the asker so.
   */
  #ask(method, params, { timeout = this.#timeout, signal }, asker) {
    signal?.throwIfAborted();
    const id = ++this.#lastId;
    const text = encode({ id, method, params });
    const giveUp = (/** @type {any} */ reason) => {
      const unsent = this.#waiting.delete(id);
      const given = this.#take(id);
      if (given && !unsent) this._send(encode({ method: "$/cancelRequest", params: { id } }));
      given?.fail(reason);
    };
    this.#requests.set(id, { asker, watch: watch(method, timeout, signal, giveUp) });
    if (this.#post(id, text)) return giveUp;
    this.#take(id);
    throw new Unanswered(this.state === "closed" ? CLOSED : TOO_MANY, false);
  }

  /** Send a message when its turn comes; false if it never will. @param {number} id @param {string} text */
  #post(id, text) {
    this.#waiting.set(id, text);
    this.#flush();
    if (this.state !== "closed" && this.#waiting.size <= this.#maxWaiting) return true;
    this.#waiting.delete(id);
    return false;
  }

  /** Send what may go now, in order. Calls make room for each other; for a stream's end nobody waits: it may be far. */
  #flush() {
    for (const [id, text] of this.#waiting) {
      if (this.#running.size >= this.#maxRunning || !this._send(text)) return;
      this.#waiting.delete(id);
      const asker = this.#requests.get(id)?.asker;
      if (asker && !(asker instanceof Stream)) this.#running.add(id);
    }
  }

  /** Who asked, if there is no answer yet. @param {unknown} id */
  #take(id) {
    const request = this.#requests.get(id);
    this.#requests.delete(id);
    request?.watch.stop();
    if (this.#running.delete(id)) this.#flush();
    return request?.asker;
  }

  /** @protected @override */
  _accepted() {
    this._enter();
    this.#flush();
    this._emit("open");
  }

  /** @protected @override @param {boolean} final */
  _ended(final) {
    for (const id of this.#requests.keys()) {
      const sent = !this.#waiting.has(id);
      if (sent || final) this.#take(id)?.fail(new Unanswered(sent ? OUTCOME_UNKNOWN : CLOSED, sent));
    }
  }

  // What the server says.

  /** @protected @override @param {unknown} data */
  _received(data) {
    const message = parse(data);
    if (!message) return;
    const { id, method, params } = message;
    if (method === undefined) this.#answered(message);
    else if (id !== undefined) this.#serve(message);
    else if (method === "$/progress") this.#progressed(params);
    else if (method === "publish") this._emit("publication", { room: params?.room, data: params?.data });
    else this.#serve(message);
  }

  /** @param {{[key: string]: any}} message */
  #answered({ id, result, error }) {
    const asker = this.#take(id);
    if (error) asker?.fail(new CallError(error.code, error.message, error.data));
    else asker?.answer(result);
  }

  /** @param {{[key: string]: any} | undefined} params */
  #progressed(params) {
    const request = this.#requests.get(params?.token);
    request?.watch.heard();
    request?.asker.progress(params?.value);
  }

  /** Run a function of the page's, and answer if there is an id to answer to. @param {{[key: string]: any}} message */
  async #serve({ id, method, params }) {
    const send = this._sender();
    const answer = (/** @type {object} */ outcome) => {
      if (id !== undefined) send(encode({ id, ...outcome }));
    };
    try {
      const handler = this.#handlers.get(method);
      if (!handler) return answer({ error: { code: METHOD_NOT_FOUND, message: "method not found" } });
      answer({ result: (await handler(...positional(params))) ?? null });
    } catch (error) {
      answer({ error: told(error) });
    }
  }
}

/**
 * A plain WebSocket, and its successor when it breaks.
 *
 * Events: `connecting`, `open` (without `detail`) and `closed` as a Connection has them, and `message`, a MessageEvent
 * as of a WebSocket: its `data` is a string or an ArrayBuffer.
 */
export class Socket extends Line {
  /**
   * Send a message, if the connection is open: nothing is kept for the next one, which may know nothing of this one.
   *
   * @param {string | BufferSource | Blob} data
   * @returns {boolean}  Whether it was sent.
   */
  send(data) {
    return this._send(data);
  }

  /** @protected @override */
  _accepted() {
    this._enter();
    this._emit("open");
  }

  /** @protected @override @param {unknown} data */
  _received(data) {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }
}

/**
 * What a function on the server yields, in order, and then its end or its error.
 *
 * @implements {AsyncIterableIterator<any>}
 * @implements {Asker}
 */
class Stream {
  #ask;
  /** @type {((reason: any) => void) | undefined} */ #giveUp;
  /** @type {((reader: Deferred) => void)[]} */ #arrived = []; // and not yet read: each settles one reader
  /** @type {Deferred[]} */ #readers = []; // for what has not yet arrived
  #state = "new"; // "new", "open", "over"

  /** @param {(asker: Asker) => (reason: any) => void} ask */
  constructor(ask) {
    this.#ask = ask;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  next() {
    if (this.#state === "new") this.#start();
    const reader = deferred();
    const settle = this.#arrived.shift();
    if (settle) settle(reader);
    else if (this.#state === "over") reader.resolve({ done: true, value: undefined });
    else this.#readers.push(reader);
    return reader.promise;
  }

  /** @param {any} [value] */
  async return(value) {
    this.#arrived = [];
    this.answer();
    this.#giveUp?.(undefined); // nothing, if the server was done anyway
    return { done: true, value };
  }

  #start() {
    this.#state = "open";
    try {
      this.#giveUp = this.#ask(this);
    } catch (error) {
      this.fail(error);
    }
  }

  /** @param {any} value */
  progress(value) {
    this.#put((reader) => reader.resolve({ done: false, value }));
  }

  /** @param {any} error */
  fail(error) {
    if (this.#state !== "over") this.#put((reader) => reader.reject(error));
    this.answer();
  }

  answer() {
    this.#state = "over";
    for (const reader of this.#readers) reader.resolve({ done: true, value: undefined });
  }

  /** @param {(reader: Deferred) => void} settle */
  #put(settle) {
    const reader = this.#readers.shift();
    if (reader) settle(reader);
    else this.#arrived.push(settle);
  }
}

/**
 * Give a request up when its signal says so, or when nothing is heard of it for too long.
 *
 * @param {string} method
 * @param {number} timeout
 * @param {AbortSignal | undefined} signal
 * @param {(reason: any) => void} giveUp
 * @returns {Watch}
 */
function watch(method, timeout, signal, giveUp) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let timer;
  const late = () => giveUp(new DOMException(`${method}: nothing was heard for ${timeout} ms`, "TimeoutError"));
  const aborted = () => giveUp(signal?.reason);
  const heard = () => {
    clearTimeout(timer);
    if (timeout) timer = setTimeout(late, timeout);
  };
  const stop = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", aborted);
  };
  signal?.addEventListener("abort", aborted);
  heard();
  return { heard, stop };
}

/** @param {object} message */
function encode(message) {
  return JSON.stringify({ jsonrpc: "2.0", ...message });
}

/** As a function takes them; those by name are one object. @param {unknown} params @returns {any[]} */
function positional(params) {
  if (Array.isArray(params)) return params;
  return params === undefined ? [] : [params];
}

/** What the server learns of an error on the page. @param {unknown} error */
function told(error) {
  if (error instanceof CallError) return { code: error.code, message: error.message, data: error.data };
  (globalThis.reportError ?? console.error)(error);
  return { code: INTERNAL_ERROR, message: "internal error" };
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

/** @typedef {{promise: Promise<any>, resolve: (value: any) => void, reject: (error: any) => void}} Deferred */

/** @returns {Deferred} */
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
