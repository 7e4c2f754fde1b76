/**
 * The connection, and the one state machine of the client:
 *
 *     idle ──> connecting <──> waiting       idle: before the first connection
 *                  │ ^            ^          waiting: for the next attempt
 *                  v └────────────┤
 *                 open ───────────┘          closed, from each of them: final
 *
 * Each state has at most one timer: for the attempt as a whole, for silence or the answer to `resume`, or for the next
 * attempt.
 */
import { backoff, STABLE_MS } from "./backoff.js";
import { reconnectAfter, type Verdict } from "./codes.js";
import { watchPage } from "./environment.js";
import { ClosedError, ConnectionError, RequestRefusedError } from "./errors.js";
import { Liveness } from "./liveness.js";
import type { ClientEvents, ClientOptions, SocketClass, SocketLike, State } from "./options.js";
import { type Deferred, defer, type Pending } from "./pending.js";
import type { ChannelEvent, Connected, Message, Positions } from "./protocol.js";
import { isHeld, MAX_HELD, RESUME, resumeFrom } from "./resuming.js";
import { addressOf, BROKEN_CONTRACT, closing, drop, protocolsOf, SILENT } from "./socket.js";

/** What the connection asks of, and tells, the rest of the client. */
export interface Hooks {
  /** Where to go on. */
  positions(): Positions;
  connected(message: Connected): void;
  /** An open connection ended and the client comes back, or it is the end; without an error because it was wished. */
  ended(error: ConnectionError | undefined, comesBack: boolean): void;
  /** Heard between the end and `over`, while not all `isAnswered`. */
  answer(message: Message): void;
  isAnswered(): boolean;
  /** After the end: nothing can be heard any more. */
  over(error: ConnectionError | undefined): void;
  event(event: ChannelEvent): void;
  message(message: Message): void;
  /** Now and then, and at least every 20 s while there is no connection. */
  tick(): void;
  emit<N extends keyof ClientEvents>(name: N, payload: ClientEvents[N]): void;
  report(error: unknown): void;
  debug(...what: unknown[]): void;
}

export interface ConnectionSettings extends Omit<ClientOptions, "url"> {
  url: URL;
  requestTimeout: number;
  Socket: SocketClass;
}

export class Connection {
  state: State = "idle";
  /** What the server said at the last connection, kept up to date; undefined before the first. */
  info: Connected | undefined;
  /** Nothing has been heard behind `connected`. */
  isNew = false;
  /** How often an open connection was followed by another. */
  reconnects = 0;
  /** The one that the server has of us; null where there is none. */
  token: string | null | undefined;

  /** As people may see it: without user, password and query, in which there may be a token. */
  readonly address: string;
  readonly #settings: ConnectionSettings;
  readonly #hooks: Hooks;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #socket: SocketLike | undefined;
  /** Stands for the attempt that is under way, so that a token that comes late is known to be late. */
  #attempt: object | undefined;
  /** Whoever called `connect` and waits. */
  #caller: Deferred<Connected> | undefined;
  #unwatch: (() => void) | undefined;
  #ended: Promise<void> | undefined;
  /** The token that the server refused, or that ran out. */
  #refused: { token: string | null | undefined; error: ConnectionError } | undefined;
  /** Takes up the session. */
  #session: string | undefined;
  /** Failures in a row, for the backoff. */
  #failures = 0;
  /** Attempts in a row that led to no connection. */
  #attempts = 0;
  /** What `goodbye` asked to wait, in ms. */
  #slot: number | undefined;
  #openedAt = 0;
  /** What came before the answer to `resume`; undefined when that is not waited for. */
  #held: Message[] | undefined;
  readonly #liveness: Liveness;

  constructor(settings: ConnectionSettings, hooks: Hooks) {
    this.address = settings.url.origin + settings.url.pathname;
    this.#settings = settings;
    this.#hooks = hooks;
    this.#liveness = new Liveness(this.#arm, hooks.tick, () => this.#lose(SILENT, "the server is silent"));
  }

  /** One attempt, or the one that is under way. */
  connect(): Pending<Connected> {
    const caller = this.#caller ?? defer<Connected>(this.#hooks.report);
    if (this.state === "closed") caller.reject(new ClosedError());
    else if (this.state === "open") caller.resolve(this.info as Connected);
    else {
      this.#caller = caller;
      if (this.state !== "connecting") this.#begin();
    }
    return caller.promise;
  }

  /** The token for the next connections, unless a function has it. */
  keepToken(token: string): void {
    this.token = token;
    if (typeof this.#settings.token !== "function") this.#settings.token = token;
  }

  /** A token from the function that has one; null where there is no function. */
  async freshToken(): Promise<string | null> {
    const { token } = this.#settings;
    return (typeof token === "function" && (await token())) || null;
  }

  /** In bytes. */
  get #limit(): number {
    return this.info?.max_message_bytes ?? 65_536;
  }

  /** The server takes this as one message, as far as is known. */
  fits(text: string): boolean {
    return text.length * 3 <= this.#limit || new TextEncoder().encode(text).length <= this.#limit;
  }

  /** Send one message. Throws RequestRefusedError where the server would close because of its size. */
  send(text: string): void {
    if (!this.fits(text)) {
      throw new RequestRefusedError(
        "payload_too_large",
        `the message is more than the ${this.#limit} bytes that this server takes: send it in parts`,
      );
    }
    this.#socket?.send(text);
  }

  /** End for good. Resolves when the socket is closed, or the server took too long to answer. */
  disconnect(): Promise<void> {
    if (this.state !== "closed") this.#finish();
    return this.#ended as Promise<void>;
  }

  /** End the connection and come back: what was heard cannot be relied on. */
  #abandon(reason: string, cause?: unknown): void {
    this.#hooks.report(this.#lose(BROKEN_CONTRACT, reason, cause));
  }

  #enter(state: State): void {
    this.#hooks.debug(this.state, "->", state);
    this.state = state;
    clearTimeout(this.#timer);
  }

  readonly #arm = (ms: number, then: () => void): void => {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  };

  // --- connecting ---

  #begin(): void {
    const { connectTimeout = 10_000, token } = this.#settings;
    const attempt = {};
    this.#letGo(SILENT); // where an attempt hangs
    this.#attempt = attempt;
    this.#unwatch ??= watchPage(this.#wake);
    this.#enter("connecting");
    this.#arm(connectTimeout, () => this.#lose(1006, `nothing within ${connectTimeout} ms`));
    if (typeof token !== "function") {
      this.#dial(token);
      return;
    }
    this.freshToken().then(
      (fresh) => {
        if (attempt !== this.#attempt) return;
        if (fresh === this.#refused?.token) this.#refuse(this.#refused.error);
        else this.#dial(fresh);
      },
      (cause) => {
        if (attempt !== this.#attempt) return;
        this.#caller ??= defer(this.#hooks.report); // reports it, where nobody waits
        this.#lose(1006, `token() failed: ${cause}`, cause);
      },
    );
  }

  /** There is no other token than the one that is of no use. */
  #refuse({ code, reason }: ConnectionError): void {
    this.#caller ??= defer(this.#hooks.report);
    this.#finish(new ConnectionError(code, `${reason}; and token() returned the same token again`));
  }

  #dial(token: string | null | undefined): void {
    let socket: SocketLike;
    this.token = token;
    try {
      const resumes = this.fits(resumeFrom(this.#hooks.positions()));
      const address = addressOf(this.#settings.url, resumes ? this.#session : undefined);
      socket = new this.#settings.Socket(address, protocolsOf(token));
    } catch (cause) {
      this.#lose(1006, `${cause}`, cause);
      return;
    }
    let problem = "";
    socket.onerror = ({ message = "" }) => {
      problem = message;
    };
    socket.onclose = ({ code, reason }) => this.#lose(code, reason || problem);
    socket.onmessage = ({ data }) => this.#receive(data as string);
    this.#socket = socket;
  }

  #opened({ reconnection_token, ...told }: Message): void {
    const message = told as unknown as Connected;
    if (this.info) this.reconnects++;
    this.info = { ...message };
    this.#session = reconnection_token;
    this.#attempts = 0;
    this.#openedAt = performance.now();
    this.#enter("open");
    this.#liveness.opened(message.heartbeat_s);
    if (message.reconnected && !this.#resume()) return;
    this.#hooks.connected(message);
    this.#caller?.resolve(message);
    this.#caller = undefined;
    this.isNew = true;
  }

  /** Say where to go on, first of all. False where that cannot be said. */
  #resume(): boolean {
    const { requestTimeout } = this.#settings;
    const text = resumeFrom(this.#hooks.positions());
    if (!this.fits(text)) {
      // This server takes less than the last one did. The next attempt knows that, and opens a new session.
      this.#abandon("the positions are more than this server takes");
      return false;
    }
    this.#held = [];
    this.send(text);
    this.#arm(requestTimeout, () => {
      if (this.#held) this.#abandon(`no reply to resume within ${requestTimeout} ms`);
      else this.#liveness.listen();
    });
    return true;
  }

  // --- open ---

  #receive(data: string): void {
    this.#liveness.heard();
    this.isNew = false;
    try {
      const message = JSON.parse(data);
      if (!this.#held || !isHeld(message)) this.#take(message);
      else if (this.#held.push(message) > MAX_HELD) this.#release();
    } catch (cause) {
      this.#abandon(`the server sent an invalid message: ${(cause as Error).message}`, cause);
    }
  }

  #take(message: Message): void {
    if (message.type === undefined) this.#hooks.event(message as unknown as ChannelEvent);
    else this.#control(message);
  }

  /** What was held counts. */
  #release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    held.forEach(this.#take, this);
  }

  #control(message: Message): void {
    const { type, id } = message;
    this.#hooks.debug("heard", type, id);
    if (type === "ping") this.send('{"type":"pong"}');
    else if (type === "reconnection_token") this.#session = message.token;
    else if (type === "resumed") this.#release();
    else if (type === "connected") {
      if (this.state === "connecting") this.#opened(message);
    } else if (type === "goodbye") {
      if (message.reconnect_after_ms >= 0) this.#slot = message.reconnect_after_ms;
      this.#hooks.emit(type, message as unknown as ClientEvents["goodbye"]);
    } else if (type === "error" && id === RESUME) {
      // Then the server has gone on from its own marks, and what was on its way to us may be missing.
      this.#abandon(`resume was refused: ${message.message}`);
    } else this.#hooks.message(message);
  }

  /** The page is seen again, or the network is back. */
  readonly #wake = (): void => {
    const { state } = this;
    // An attempt may hang until its time is over; one that somebody waits for has no other than that.
    if (state === "waiting" || (state === "connecting" && !this.#caller)) this.#begin();
    else if (state === "open" && !this.#held) {
      this.send('{"type":"ping"}');
      this.#liveness.lastCall(this.#settings.requestTimeout);
    }
  };

  // --- over ---

  /** The attempt or the connection has ended: what comes next depends on the code. */
  #lose(code: number, reason: string, cause?: unknown): ConnectionError {
    const wasOpen = this.state === "open";
    const error = new ConnectionError(code, reason, cause, wasOpen ? undefined : this.address);
    this.#letGo(code);
    if (!this.info) {
      this.#rest("idle");
      this.#tellCaller(error);
      return error;
    }
    const verdict = reconnectAfter(code);
    if (verdict === "fresh_token") {
      // An attempt may also be refused with 1008 because the session is another user's than the token.
      if (wasOpen || code !== 1008 || !this.#session) this.#refused = { token: this.token, error };
      if (code === 1008) this.#session = undefined;
    }
    if (wasOpen && performance.now() - this.#openedAt >= STABLE_MS) this.#failures = 0;
    if (this.#comesBack(verdict)) this.#wait(error, wasOpen);
    else this.#finish(error);
    return error;
  }

  #letGo(code: number): void {
    if (this.#socket) drop(this.#socket, code);
    this.#socket = this.#attempt = this.#held = undefined;
  }

  #comesBack(verdict: Verdict): boolean {
    const { autoReconnect = true, maxReconnectAttempts = Infinity, token } = this.#settings;
    return (
      autoReconnect &&
      this.#attempts < maxReconnectAttempts &&
      (verdict === "yes" || (verdict === "fresh_token" && typeof token === "function"))
    );
  }

  #wait(error: ConnectionError, wasOpen: boolean): void {
    const drawn = backoff(this.#failures++);
    const delay = this.#slot ?? drawn;
    const attempt = ++this.#attempts;
    this.#slot = undefined;
    this.#enter("waiting");
    this.#arm(delay, () => this.#begin());
    this.#tellCaller(error);
    if (wasOpen) this.#hooks.ended(error, true);
    this.#hooks.tick();
    this.#hooks.emit("reconnecting", { attempt, delay, error });
  }

  /** No timer and no listener any more. */
  #rest(state: State): void {
    this.#enter(state);
    this.#unwatch?.();
    this.#unwatch = undefined;
  }

  #finish(error?: ConnectionError): void {
    const socket = this.#socket;
    const wasOpen = this.state === "open";
    const { answer, isAnswered, ended, over } = this.#hooks;
    this.#socket = this.#attempt = undefined;
    this.#rest("closed");
    const close = socket && closing(socket, answer, () => !wasOpen || isAnswered());
    this.#ended = Promise.resolve(close).then(() => over(error));
    this.#tellCaller(error ?? new ClosedError());
    ended(error, false);
  }

  #tellCaller(error: Error): void {
    this.#caller?.reject(error);
    this.#caller = undefined;
  }
}
