/** What a user of the client gives it, and is told by it. */
import type { NeurographError } from "./errors.js";
import type { ChannelName, Connected, EventOf, Gap, Goodbye, Pong, Positions, TokenExpiring } from "./protocol.js";

/** A token, or a function that has a fresh one; it is asked at each connection and before the token expires. */
export type TokenSource = string | (() => string | null | undefined | Promise<string | null | undefined>);

/** As much of a WebSocket as is used here. */
export interface SocketLike {
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: { message?: string }) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
  /** Of `ws`: ends the socket without a closing handshake. */
  terminate?(): void;
}

/** The browsers' class `WebSocket`, or `ws`'s. */
// biome-ignore lint/suspicious/noExplicitAny: the DOM's and ws's classes differ in the types of their handlers' events
export type SocketClass = new (url: string, protocols: string[]) => any;

/** The options of `new NeurographWSClient(…)`. Times are in milliseconds. */
export interface ClientOptions {
  /** `ws://host:port/ws` or `wss://…`; in a browser also relative to the page. */
  url: string;
  /** A JWT, or a function that fetches one. It travels as a subprotocol, never in the URL. */
  token?: TokenSource | null | undefined;
  /** Come back after a lost connection: true. */
  autoReconnect?: boolean | undefined;
  /** Attempts in a row before the client gives up: any number. */
  maxReconnectAttempts?: number | undefined;
  /** For the socket, the token and `connected` together: 10,000. */
  connectTimeout?: number | undefined;
  /** For the reply to a request, or to `resume`: 10,000. */
  requestTimeout?: number | undefined;
  /** Say by `console.debug` what happens; no tokens and no data: false. */
  debug?: boolean | undefined;
  /** The class to connect with, where there is no global `WebSocket`. */
  webSocket?: SocketClass | undefined;
}

/** Which events, and what happens where this client is too slow. See "subscribe" in the server's protocol. */
export interface SubscribeOptions {
  /** `{"data.priority": {$gte: 200}}` */
  filter?: Record<string, unknown> | undefined;
  policy?: "drop_oldest" | "drop_newest" | "latest" | "disconnect" | undefined;
  /** With the policy `latest`: the path of what tells events apart. */
  key?: string | undefined;
  /** First what came behind these positions, by channel; `getConnectionInfo().positions` of an earlier run will do. */
  recover?: Positions | undefined;
  /** First the last so many events that match. */
  last?: number | undefined;
  /** First the events from this time on: RFC 3339 with a zone. */
  since?: string | undefined;
}

/** The options of `events()`. */
export interface EventsOptions extends SubscribeOptions {
  /** Yield gaps too, at their place: false. */
  gaps?: boolean | undefined;
  /** Events that wait for the loop: 1,000. The oldest go first, and a gap `client_overflow` stands in their place. */
  buffer?: number | undefined;
}

/** Which part of the past; without any the newest `limit` events. */
export interface HistoryOptions {
  /** Behind this position. */
  after?: { epoch: string; seq: number } | undefined;
  /** The newest so many. */
  last?: number | undefined;
  /** From this time on, it included. */
  since?: string | undefined;
  /** 100; 1,000 at most. */
  limit?: number | undefined;
}

/** Gets each event whole. What it returns is not waited for; if that is a promise, its rejection is reported. */
export type Handler<C extends string = ChannelName> = (event: EventOf<C>) => unknown;

/** idle → connecting → open ⇄ waiting (for the next attempt) → closed, which is final. */
export type State = "idle" | "connecting" | "open" | "waiting" | "closed";

/** What `on` tells of, and with what. */
export interface ClientEvents {
  connected: Connected;
  /** An open connection ended, or (`reconnect: false`) the client did. */
  disconnected: { code: number; reason: string; reconnect: boolean };
  /** Before each attempt to come back; `error` is why it is needed. `delay` in ms. */
  reconnecting: { attempt: number; delay: number; error: NeurographError };
  /** What nobody awaits: handlers that throw, channels refused, publishes failed. Unheard, it goes to the console. */
  error: NeurographError;
  pong: Pong;
  gap: Gap;
  token_expiring: TokenExpiring;
  goodbye: Goodbye;
}

/** What `getConnectionInfo()` tells. */
export interface ConnectionInfo {
  /** Without user, password and query. */
  url: string;
  state: State;
  clientId: string | null;
  userId: string | null;
  role: string | null;
  epoch: string | null;
  /** The server's time, RFC 3339. */
  connectedAt: string | null;
  subscriptions: string[];
  positions: Positions;
  /** How often the connection came back. */
  reconnects: number;
  /** Publishes that wait for their answer. */
  queued: number;
}
