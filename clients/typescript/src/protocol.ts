/** What the server and its clients say to each other, as types: version 1 of the wire contract. */

/** A place in a channel's stream: `seq` counts events from 1 without holes within an `epoch`. */
export interface Position {
  epoch: string;
  seq: number;
}

/** Positions by channel, as in `getConnectionInfo().positions` and in the option `recover`. */
export type Positions = Record<string, Position>;

/** The system's own channels. Others, from the server's configuration, are strings like these. */
export const Channel = {
  METRICS: "metrics",
  SIGNALS: "signals",
  ACTIONS: "actions",
  LOGS: "logs",
  STATUS: "status",
  CONNECTIONS: "connections",
  /** To this client or its user: comes without a subscription, and has no `seq`. */
  PERSONAL: "personal",
  /** To everybody: comes without a subscription, and has no `seq`. */
  GLOBAL: "global",
} as const;

/** Data of a channel that this version knows nothing about. */
export type AnyData = Record<string, unknown>;

/** `metrics`: the router's own figures, every 5 s. */
export interface MetricsData {
  /** Of the router's process; 100 is one core. */
  cpu_percent?: number;
  /** 0 to 100. */
  host_cpu_percent?: number;
  /** Resident, in 10^6 bytes. */
  memory_mb?: number;
  /** Over the last 5 s. */
  events_per_sec?: number;
  /** Over the last 5 s. */
  deliveries_per_sec?: number;
  total_connections?: number;
  total_channels?: number;
  total_subscriptions?: number;
  buffered_events?: number;
  /** Given by the host application; null without. */
  total_tokens?: number | null;
  [field: string]: unknown;
}

/** `signals`: events `signal.*`. */
export interface SignalsData {
  event_id?: string;
  event_type?: string;
  is_novel?: boolean;
  /** 0 to 255. */
  priority?: number;
  /** 0 to 1. */
  resonance_score?: number | null;
  neighbors_count?: number;
  [field: string]: unknown;
}

/** `actions`: events `action.executed`, `action.failed` and others. */
export interface ActionsData {
  action_id?: string;
  action_type?: string;
  status?: string;
  result?: unknown;
  execution_time_ms?: number;
  error?: string | null;
  [field: string]: unknown;
}

/** `logs`: events `log.debug` to `log.critical`. */
export interface LogsData {
  level?: string;
  message?: string;
  service?: string;
  correlation_id?: string | null;
  [field: string]: unknown;
}

/** `status`: events `status.starting`, `.running`, `.draining`, `.stopped`, `.error`. */
export interface StatusData {
  status?: string;
  uptime_seconds?: number;
  version?: string;
  [field: string]: unknown;
}

/** `connections`: events `client.connected`, `.disconnected`, `.subscribed`, `.unsubscribed`, `.resumed`. */
export interface ConnectionsData {
  client_id?: string;
  user_id?: string | null;
  total_connections?: number;
  channels?: string[];
  reason?: string | null;
  code?: number | null;
  [field: string]: unknown;
}

/** The data of each channel. Name your own by declaration merging: `interface ChannelData { orders: Order }`. */
export interface ChannelData {
  metrics: MetricsData;
  signals: SignalsData;
  actions: ActionsData;
  logs: LogsData;
  status: StatusData;
  connections: ConnectionsData;
}

/** A channel's name; those of `ChannelData` have typed events. */
export type ChannelName = keyof ChannelData | (string & {});

/** An event, whole, as the server sent it. */
export interface ChannelEvent<C extends string = string, D = AnyData> {
  channel: C;
  /** UTC, RFC 3339 with milliseconds. On a channel it never goes back. */
  timestamp: string;
  event_type: string;
  data: D;
  /** Missing on `personal` and `global`. */
  seq?: number;
}

/** The event of a channel; for a union of channels the union of their events. */
export type EventOf<C extends string> = C extends keyof ChannelData ? ChannelEvent<C, ChannelData[C]> : ChannelEvent<C>;

/** Events are missing here. Only this is a loss; a hole in `seq` is what a filter left out. */
export interface Gap {
  type: "gap";
  of: string;
  epoch: string;
  /** The first missing `seq`; null where it is not known. */
  from: number | null;
  to: number | null;
  /** How many of the missing events matched the filter; null where nobody knows. */
  count: number | null;
  /** `slow_consumer`, `buffer_overflow`, `history_trimmed`, `epoch_changed`; this client's own: `client_overflow`. */
  reason: string;
  /** false where `count` could not ask the filter. */
  exact?: boolean;
}

/** What the server says first. */
export interface Connected {
  type: "connected";
  client_id: string;
  user_id: string | null;
  timestamp: string;
  role: string;
  /** The session goes on: its subscriptions are still there. */
  reconnected: boolean;
  protocol: number;
  epoch: string;
  heartbeat_s: number;
  max_message_bytes: number;
  /** Life of the session without a connection, in seconds. */
  expires_in: number;
  channels?: string[];
  positions?: Positions;
  denied?: string[];
}

/** The answer to a publish. */
export interface Published {
  type: "published";
  channel: string;
  /** The first and the last `seq`; the same for one event. */
  seq: [first: number, last: number];
  /** Subscriptions at that moment, before filters. */
  subscribers: number;
  timestamp: string;
}

/** A part of a channel's past, in ascending order. */
export interface History<C extends string = string> {
  type: "history";
  channel: C;
  epoch: string;
  /** false where a part of what was asked for is gone. */
  complete: boolean;
  /** true where only `limit` or the size of a message cut it: go on with `after` the last event. */
  more: boolean;
  events: EventOf<C>[];
}

export interface Authenticated {
  type: "authenticated";
  user_id: string | null;
  role: string;
  expires_at: string | null;
  timestamp: string;
}

export interface Pong {
  type: "pong";
  timestamp: string;
}

export interface TokenExpiring {
  type: "token_expiring";
  expires_at: string;
}

export interface Goodbye {
  type: "goodbye";
  reason: string;
  reconnect_after_ms: number;
}

/** A message that is no event. What it holds is known by its `type` alone. */
// biome-ignore lint/suspicious/noExplicitAny: a message off the wire; whoever reads it knows its type
export type Message = { type: string; id?: string | number } & Record<string, any>;
