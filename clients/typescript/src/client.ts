/** The client: what its users call, and how its parts are joined. */
import { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import { addressIn, socketClass } from "./environment.js";
import { ClosedError, ConnectionError, NeurographError } from "./errors.js";
import type {
  ClientEvents,
  ClientOptions,
  ConnectionInfo,
  EventsOptions,
  Handler,
  HistoryOptions,
  SubscribeOptions,
} from "./options.js";
import type { Pending } from "./pending.js";
import type {
  AnyData,
  Authenticated,
  ChannelData,
  ChannelName,
  Connected,
  EventOf,
  Gap,
  History,
  Message,
  Pong,
  Positions,
  Published,
  TokenExpiring,
} from "./protocol.js";
import { Publishing } from "./publishing.js";
import { Requests } from "./requests.js";
import { EventStream } from "./stream.js";
import { type AnyHandler, Subscriptions } from "./subscriptions.js";

/** One event of a batch. */
export interface NewEvent {
  event_type: string;
  data?: AnyData | ChannelData[keyof ChannelData];
}

/**
 * A client of the router. It subscribes, publishes, and comes back after a lost connection where it left off.
 *
 * Calls that return a promise may be ignored: a failure that nobody awaits is told by `on("error")`.
 */
export class NeurographWSClient {
  readonly #emitter = new Emitter();
  readonly #connection: Connection;
  readonly #subscriptions: Subscriptions;
  readonly #publishing: Publishing;
  readonly #requests: Requests;
  readonly #streams = new Set<EventStream>();
  #lastId = 0;

  /** Connects by itself to nothing. Throws TypeError for an address that is none, or without a WebSocket class. */
  constructor(options: ClientOptions) {
    const { emit, report } = this.#emitter;
    const url = addressIn(options.url);
    const inUrl = url.searchParams.get("token");
    url.searchParams.delete("token"); // it would end up in somebody's log
    const Socket = socketClass(options.webSocket);
    const { requestTimeout = 10_000 } = options;
    const hooks = {
      report,
      isOpen: () => this.isConnected(),
      epoch: () => this.#connection.info?.epoch ?? "",
    };
    this.#connection = new Connection(
      {
        ...options,
        url,
        token: options.token ?? inUrl,
        requestTimeout,
        Socket,
      },
      {
        emit,
        report,
        positions: () => this.#subscriptions.positions(),
        connected: (message) => this.#connected(message),
        ended: (error, comesBack) => this.#ended(error, comesBack),
        answer: (message) => this.#publishing.message(message),
        isAnswered: () => this.#publishing.isAnswered(),
        over: (error) => this.#publishing.close(error ?? new ClosedError()),
        event: (event) => this.#subscriptions.event(event),
        message: (message) => this.#message(message),
        tick: () => this.#publishing.expire(),
        debug: options.debug ? (...what) => console.debug("neurograph", ...what) : () => {},
      },
    );
    this.#subscriptions = new Subscriptions({ ...hooks, ask: (message) => this.#send(message) });
    this.#publishing = new Publishing({
      ...hooks,
      send: (text) => {
        // Whoever subscribes and then publishes is to get their own event.
        this.#subscriptions.sync();
        this.#connection.send(text);
      },
    });
    this.#requests = new Requests(requestTimeout, report);
  }

  /**
   * Connect: one attempt, of at most `connectTimeout`. Resolves with what the server said.
   *
   * Rejects with ConnectionError, and then nothing goes on; or with ClosedError after `disconnect()`.
   */
  connect(): Pending<Connected> {
    return this.#connection.connect();
  }

  /**
   * For good. Subscriptions and loops end, requests that wait fail. What was published has 2 s to be answered, and then
   * the closing 3 s.
   */
  disconnect(): Promise<void> {
    return this.#connection.disconnect();
  }

  /**
   * Get a channel's events, now or as soon as there is a connection. A channel may have several handlers; the newest
   * options given hold for all of them. A channel that the server refuses is told by `on("error")`.
   *
   * Throws ClosedError after `disconnect()`, and TypeError for a name that is no string.
   */
  subscribe<C extends ChannelName>(channel: C, handler?: Handler<C>, options?: SubscribeOptions): void {
    this.#want([channel], handler, options);
  }

  /** The same for several channels, in one message. */
  subscribeMultiple<C extends ChannelName>(
    channels: readonly C[],
    handler?: Handler<C>,
    options?: SubscribeOptions,
  ): void {
    this.#want(channels, handler, options);
  }

  #want(channels: readonly string[], handler: AnyHandler | undefined, options: SubscribeOptions | undefined): void {
    if (this.#connection.state === "closed") throw new ClosedError();
    this.#subscriptions.add(channels, handler, options);
  }

  /** Take away one handler, or all of them and the loops too. With the last one the subscription ends. */
  unsubscribe<C extends ChannelName>(channel: C, handler?: Handler<C>): void {
    this.#subscriptions.remove(channel, handler);
    if (handler) return;
    for (const stream of this.#streams) if (stream.channel === channel) this.#endStream(stream);
  }

  /**
   * A channel's events for `for await`. Subscribes at once (and throws as `subscribe` does), and unsubscribes when the
   * loop is left.
   *
   * The loop ends with `disconnect()`, and throws ConnectionError where the server ended the connection for good.
   */
  events<C extends ChannelName>(
    channel: C,
    options: EventsOptions & { gaps: true },
  ): AsyncIterableIterator<EventOf<C> | Gap>;
  events<C extends ChannelName>(channel: C, options?: EventsOptions): AsyncIterableIterator<EventOf<C>>;
  events(channel: string, options: EventsOptions = {}): AsyncIterableIterator<unknown> {
    const { gaps = false, buffer = 1000, ...rest } = options;
    const stream = new EventStream({
      channel,
      limit: buffer,
      gaps,
      epoch: () => this.#connection.info?.epoch ?? "",
      overflowed: (gap) => this.#emitter.emit("gap", gap),
      left: () => {
        this.#streams.delete(stream);
        this.#subscriptions.remove(channel, stream.push);
      },
    });
    this.#want([channel], stream.push, Object.keys(rest).length ? rest : undefined);
    this.#streams.add(stream);
    return stream;
  }

  /**
   * Call this when something happens. `connected` is also told to who asks right after `await connect()`.
   *
   * Throws RangeError for a name that there is not, and TypeError where the callback is no function.
   */
  on<N extends keyof ClientEvents>(name: N, callback: (payload: ClientEvents[N]) => unknown): void {
    this.#emitter.on(name, callback);
    const { isNew, info } = this.#connection;
    if (name === "connected" && isNew && this.isConnected()) {
      queueMicrotask(() => {
        this.#connection.isNew = false; // a callback that sets others does not go on for ever
        this.#emitter.call(name, callback, { ...info } as ClientEvents[N]);
      });
    }
  }

  /** Not any more; without a callback, none of this name. What is not there is no error. */
  off<N extends keyof ClientEvents>(name: N, callback?: (payload: ClientEvents[N]) => unknown): void {
    this.#emitter.off(name, callback);
  }

  /**
   * Publish an event, now or as soon as there is a connection. It is sent again until it is answered; its key, made
   * up where none is given, keeps that from publishing it twice: a key of up to 64 characters, known for 120 s.
   *
   * Rejects with RequestRefusedError, QueueFullError (1,000 publishes or 1 MiB wait), or PublishUncertainError.
   */
  publish<C extends ChannelName>(
    channel: C,
    eventType: string,
    data: EventOf<C>["data"] = {},
    key?: string,
  ): Pending<Published> {
    return this.#publish(key, () => ({ channel, event_type: eventType, data }));
  }

  /** Publish 1 to 1,000 events with consecutive seqs: all or none. */
  publishBatch(channel: ChannelName, events: readonly NewEvent[], key?: string): Pending<Published> {
    return this.#publish(key, () => {
      const { length } = events;
      if (length < 1 || length > 1000) throw new RangeError(`events: 1 to 1,000 in a batch, not ${length}`);
      return { channel, events };
    });
  }

  /** A part of a channel's past. Rejects with RequestRefusedError, for instance `history_unavailable`. */
  history<C extends ChannelName>(channel: C, options: HistoryOptions = {}): Pending<History<C>> {
    return this.#ask({ type: "history", channel, ...options }, (reply) => reply as unknown as History<C>);
  }

  /** Sign in, or renew a token. The next connections use it too, unless a function has the token. */
  authenticate(token: string): Pending<Authenticated> {
    return this.#ask({ type: "authenticate", token }, (reply) => {
      this.#connection.keepToken(token);
      return reply as unknown as Authenticated;
    });
  }

  /** The time to the server and back, in ms. */
  ping(): Pending<number> {
    const sent = performance.now();
    return this.#ask({ type: "ping" }, () => performance.now() - sent);
  }

  /** The channels that are wanted here. */
  getSubscriptions(): string[] {
    return this.#subscriptions.names();
  }

  /** The channels that the server has for this session. */
  fetchSubscriptions(): Pending<string[]> {
    return this.#ask({ type: "get_subscriptions" }, (reply) => reply.channels);
  }

  /** The connection is open, and the server has said `connected`. */
  isConnected(): boolean {
    return this.#connection.state === "open";
  }

  /** What is known of the connection, also while there is none. A copy; without secrets. */
  getConnectionInfo(): ConnectionInfo {
    const { state, info, reconnects, address } = this.#connection;
    return {
      url: address,
      state,
      clientId: info?.client_id ?? null,
      userId: info?.user_id ?? null,
      role: info?.role ?? null,
      epoch: info?.epoch ?? null,
      connectedAt: info?.timestamp ?? null,
      subscriptions: this.#subscriptions.names(),
      positions: this.#subscriptions.positions(),
      reconnects,
      queued: this.#publishing.length,
    };
  }

  // --- sending ---

  /** Send a message with a new id, which is returned. Throws ConnectionError where there is no connection. */
  #send(message: object): string {
    if (!this.isConnected()) throw this.#notConnected();
    const id = this.#nextId();
    this.#subscriptions.sync();
    this.#connection.send(JSON.stringify({ ...message, id }));
    return id;
  }

  readonly #nextId = () => `${++this.#lastId}`;

  #notConnected(): NeurographError {
    const { state } = this.#connection;
    if (state === "closed") return new ClosedError();
    return new ConnectionError(1006, `there is none (${state}): await connect()`);
  }

  #ask<T>(message: { type: string; [field: string]: unknown }, result: (reply: Message) => T): Pending<T> {
    return this.#requests.ask(message.type, () => this.#send(message), result);
  }

  #publish(key: string | undefined, what: () => object): Pending<Published> {
    return this.#publishing.add(this.#nextId(), key, () => {
      if (this.#connection.state === "closed") throw new ClosedError();
      return what();
    });
  }

  // --- hearing ---

  #connected(message: Connected): void {
    this.#subscriptions.connected(message);
    this.#subscriptions.sync();
    this.#publishing.connected();
    this.#emitter.emit("connected", message);
  }

  #message(message: Message): void {
    const { type } = message;
    if (type === "gap") this.#gap(message as unknown as Gap);
    else if (type === "pong") this.#emitter.emit(type, message as unknown as Pong);
    else if (type === "token_expiring") this.#renew(message as unknown as TokenExpiring);
    else if (type === "authenticated") this.#authenticated(message as unknown as Authenticated);
    else if (type === "position") this.#moved(message.positions);
    const heard =
      this.#publishing.message(message) || this.#requests.reply(message) || this.#subscriptions.message(message);
    if (!heard && type === "error") this.#emitter.report(new NeurographError(message.code, message.message));
  }

  #gap(gap: Gap): void {
    this.#subscriptions.gap(gap);
    for (const stream of this.#streams) if (stream.channel === gap.of) stream.pushGap(gap);
    this.#emitter.emit("gap", gap);
  }

  /** A new epoch is told by the positions in it. */
  #moved(positions: Positions): void {
    for (const { epoch } of Object.values(positions)) (this.#connection.info as Connected).epoch = epoch;
  }

  #authenticated({ user_id, role }: Authenticated): void {
    Object.assign(this.#connection.info as Connected, { user_id, role });
    this.#subscriptions.askAgain();
  }

  /** The token ends soon: get another from whoever has them. */
  #renew(message: TokenExpiring): void {
    this.#emitter.emit("token_expiring", message);
    this.#connection.freshToken().then(
      (token) => {
        // Of the same token's end the server would only warn again; when that has come, another one is asked for.
        if (!token || token === this.#connection.token || !this.isConnected()) return;
        // Where the connection is lost meanwhile, the next one asks for a token itself.
        this.authenticate(token).catch((error) => this.isConnected() && this.#emitter.report(error));
      },
      (cause) => this.#emitter.report(new NeurographError("token_failed", `token() failed: ${cause}`, cause)),
    );
  }

  // --- ending ---

  #ended(error: ConnectionError | undefined, reconnect: boolean): void {
    this.#requests.fail(error ?? new ClosedError()); // what is subscribed and published waits for the next connection
    this.#subscriptions.close();
    if (!reconnect) for (const stream of this.#streams) this.#endStream(stream, error);
    this.#emitter.emit("disconnected", { code: error?.code ?? 1000, reason: error?.reason ?? "", reconnect });
  }

  #endStream(stream: EventStream, error?: Error): void {
    this.#streams.delete(stream);
    stream.end(error);
  }
}
