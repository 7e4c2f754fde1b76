/**
 * The connection, and the one state machine of the client:
 *
 *     idle ──> connecting <──> waiting       idle: before the first connection
 *                  │ ^            ^          waiting: for the next attempt
 *                  v └────────────┤
 *                 open ───────────┘          closed, from each of them: final
 *
 * Each state has at most one timer: for the attempt as a whole, for silence, or for the next attempt.
 */
import { backoff, STABLE_MS } from "./backoff.js";
import { reconnectAfter } from "./codes.js";
import { type OpenSocket, watchPage } from "./environment.js";
import { ClientClosedError, ConnectionError, RequestRefusedError } from "./errors.js";
import type { ClientEvents, SocketLike, State, TokenSource } from "./options.js";
import { type Deferred, defer, type Pending } from "./pending.js";
import type { ChannelEvent, Connected, Message } from "./protocol.js";
import { addressOf, BROKEN_CONTRACT, closing, drop, protocolsOf, SILENT } from "./socket.js";

/** Life without a sign of the server beyond its heartbeat. */
const GRACE_MS = 15_000;
/** Of the channels, by type; events have none. */
const HELD: unknown[] = [undefined, "gap", "position"];
/** Many times what a server replays: one that sends more and no `resumed` is taken at its word. */
const MAX_HELD = 20_000;

/** What the connection asks of, and tells, the rest of the client. */
export interface Hooks {
  /** May the session be taken up? Otherwise a new one is opened. */
  resumable(): boolean;
  connected(message: Connected): void;
  /** An open connection ended; the client comes back, or `closed` follows. */
  lost(error: ConnectionError): void;
  /** The end; without an error because it was wished. */
  closed(error: ConnectionError | undefined): void;
  /** Heard between `closed` and `over`, while not all `isAnswered`. */
  answer(message: Message): void;
  isAnswered(): boolean;
  /** After `closed`: nothing can be heard any more. */
  over(error: ConnectionError | undefined): void;
  event(event: ChannelEvent): void;
  message(message: Message): void;
  /** Now and then, and at least every 20 s while there is no connection. */
  tick(): void;
  emit<N extends keyof ClientEvents>(name: N, payload: ClientEvents[N]): void;
  report(error: unknown): void;
  debug(...what: unknown[]): void;
}

export interface ConnectionSettings {
  url: URL;
  token: TokenSource | null | undefined;
  autoReconnect: boolean;
  maxReconnectAttempts: number;
  connectTimeout: number;
  requestTimeout: number;
  open: OpenSocket;
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

  /** Without token and session. */
  readonly url: URL;
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
  /** What came before the answer to `resume`: where that fails, it stands behind a hole. */
  #held: Message[] | undefined;
  #heardAt = 0;
  /** Silence for so long, in ms, is death. */
  #silence = 0;

  constructor(settings: ConnectionSettings, hooks: Hooks) {
    this.url = settings.url;
    this.#settings = settings;
    this.#hooks = hooks;
  }

  /** One attempt, or the one that is under way. */
  connect(): Pending<Connected> {
    const caller = this.state === "connecting" && this.#caller ? this.#caller : defer<Connected>(this.#hooks.report);
    if (this.state === "closed") caller.reject(new ClientClosedError());
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
        `the message is over ${this.#limit} bytes, the most that this server takes: send it in parts, or over HTTP`,
      );
    }
    this.#socket?.send(text);
  }

  /** Say where to go on: what comes of the channels counts once the server has said `resumed`. */
  resume(text: string): void {
    this.#held = [];
    this.send(text);
  }

  /** End for good. Resolves when the socket is closed, or the server took too long to answer. */
  disconnect(): Promise<void> {
    if (this.state !== "closed") this.#finish();
    return this.#ended as Promise<void>;
  }

  /** End the connection and come back: what was heard cannot be relied on. */
  abandon(reason: string, cause?: unknown): void {
    this.#hooks.report(this.#lose(BROKEN_CONTRACT, reason, cause));
  }

  #enter(state: State, ms: number, then: () => void): void {
    this.#hooks.debug(this.state, "->", state);
    this.state = state;
    this.#arm(ms, then);
  }

  #arm(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  // --- connecting ---

  #begin(): void {
    const { connectTimeout, token } = this.#settings;
    const attempt = {};
    this.#attempt = attempt;
    this.#unwatch ??= watchPage(this.#wake);
    this.#enter("connecting", connectTimeout, () => this.#lose(1006, `no connection within ${connectTimeout} ms`));
    if (typeof token !== "function") {
      this.#dial(token);
      return;
    }
    this.freshToken().then(
      (fresh) => {
        if (attempt !== this.#attempt) return;
        const refused = this.#refused;
        if (fresh === refused?.token) this.#refuse(refused.error);
        else this.#dial(fresh);
      },
      (cause) => {
        if (attempt !== this.#attempt) return;
        const unheard = !this.#caller;
        const error = this.#lose(1006, `token() failed: ${cause}`, cause);
        if (unheard) this.#hooks.report(error);
      },
    );
  }

  /** There is no other token than the one that is of no use. */
  #refuse({ code, reason }: ConnectionError): void {
    const error = new ConnectionError(code, `${reason}; and token() returned the same token again`);
    const unheard = !this.#caller;
    this.#finish(error);
    if (unheard) this.#hooks.report(error);
  }

  #dial(token: string | null | undefined): void {
    let socket: SocketLike;
    this.token = token;
    try {
      const address = addressOf(this.url, this.#hooks.resumable() ? this.#session : undefined);
      socket = this.#settings.open(address, protocolsOf(token));
    } catch (cause) {
      this.#lose(1006, `${cause}`, cause);
      return;
    }
    let problem: string | undefined;
    socket.onerror = (event) => {
      problem = event.message?.replace(/ 404$/, "$&: no router at this path, which is /ws where nobody has changed it");
    };
    socket.onclose = ({ code, reason }) => this.#lose(code, reason || problem || "");
    socket.onmessage = ({ data }) => this.#receive(data as string);
    this.#socket = socket;
  }

  #opened(message: Connected): void {
    const { heartbeat_s, reconnection_token } = message;
    if (this.info) this.reconnects++;
    this.info = { ...message };
    this.#session = reconnection_token;
    this.#attempts = 0;
    this.#slot = undefined;
    this.#openedAt = performance.now();
    this.#silence = (heartbeat_s > 0 ? heartbeat_s : 30) * 1000 + GRACE_MS;
    this.#enter("open", this.#silence, this.#listen);
    this.#hooks.connected(message);
    this.#caller?.resolve(message);
    this.isNew = true;
  }

  // --- open ---

  #receive(data: string): void {
    this.#heardAt = performance.now();
    this.isNew = false;
    try {
      const message = JSON.parse(data);
      if (!this.#held || !HELD.includes(message.type)) this.#take(message);
      else if (this.#held.push(message) > MAX_HELD) this.#release();
    } catch (cause) {
      this.abandon(`the server sent what is no message: ${(cause as Error).message}`, cause);
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
    this.#hooks.debug("heard", message.type, message.id);
    if (message.type === "resumed") this.#release();
    switch (message.type) {
      case "ping":
        this.send('{"type":"pong"}');
        return;
      case "connected":
        if (this.state === "connecting") this.#opened(message as unknown as Connected);
        return;
      case "reconnection_token":
        this.#session = message.token;
        return;
      case "goodbye":
        if (message.reconnect_after_ms >= 0) this.#slot = message.reconnect_after_ms;
        this.#hooks.emit("goodbye", message as unknown as ClientEvents["goodbye"]);
        return;
      default:
        this.#hooks.message(message);
    }
  }

  /** The timer of `open`: is the server alive? */
  readonly #listen = (): void => {
    const left = this.#heardAt + this.#silence - performance.now();
    this.#hooks.tick();
    if (left > 0) this.#arm(left, this.#listen);
    else this.#lastCall(1000);
  };

  /**
   * Anything heard within so many ms keeps the connection.
   *
   * A busy thread or a computer that slept runs this timer before it reads what has long been there, hence once more.
   */
  #lastCall(ms: number): void {
    const since = this.#heardAt;
    this.#arm(ms, () => {
      if (this.#heardAt !== since) this.#listen();
      else this.#lose(SILENT, "the server is silent");
    });
  }

  /** The page is seen again, or the network is back. */
  readonly #wake = (): void => {
    if (this.state === "waiting") this.#begin();
    else if (this.state === "open") {
      this.send('{"type":"ping"}');
      this.#lastCall(this.#settings.requestTimeout);
    }
  };

  // --- over ---

  /** The attempt or the connection has ended: what comes next depends on the code. */
  #lose(code: number, reason: string, cause?: unknown): ConnectionError {
    const error = new ConnectionError(code, reason, cause);
    const wasOpen = this.state === "open";
    if (this.#socket) drop(this.#socket, code);
    this.#socket = this.#attempt = this.#held = undefined;
    if (!this.info) {
      this.#rest("idle");
      this.#tellCaller(error);
      return error;
    }
    if (reconnectAfter(code) === "fresh_token") {
      // An attempt may also be refused with 1008 because the session is another user's than the token.
      if (wasOpen || code !== 1008 || !this.#session) this.#refused = { token: this.token, error };
      if (code === 1008) this.#session = undefined;
    }
    if (wasOpen && performance.now() - this.#openedAt >= STABLE_MS) this.#failures = 0;
    if (this.#comesBack(code)) this.#wait(error, wasOpen);
    else this.#finish(error);
    return error;
  }

  #comesBack(code: number): boolean {
    const { autoReconnect, maxReconnectAttempts, token } = this.#settings;
    const verdict = reconnectAfter(code);
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
    this.#enter("waiting", delay, () => this.#begin());
    this.#tellCaller(error);
    if (wasOpen) this.#hooks.lost(error);
    this.#hooks.tick();
    this.#hooks.emit("reconnecting", { attempt, delay, error });
  }

  /** No timer and no listener any more. */
  #rest(state: State): void {
    this.#hooks.debug(this.state, "->", state);
    this.state = state;
    clearTimeout(this.#timer);
    this.#unwatch?.();
    this.#unwatch = undefined;
  }

  #finish(error?: ConnectionError): void {
    const socket = this.#socket;
    const wasOpen = this.state === "open";
    const { answer, isAnswered, closed, over } = this.#hooks;
    this.#socket = this.#attempt = undefined;
    this.#rest("closed");
    const ended = socket && closing(socket, answer, () => !wasOpen || isAnswered());
    this.#ended = ended ? ended.then(() => over(error)) : Promise.resolve();
    this.#tellCaller(error ?? new ClientClosedError());
    closed(error);
    if (!ended) over(error);
  }

  #tellCaller(error: Error): void {
    this.#caller?.reject(error);
    this.#caller = undefined;
  }
}
