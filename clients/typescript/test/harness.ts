/** A client on a socket that is none, under a clock that stands still: what the unit tests stand on. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import FakeTimers from "@sinonjs/fake-timers";
import { type ClientOptions, NeurographWSClient } from "../src/index.js";
import type { SocketLike } from "../src/options.js";

// biome-ignore lint/suspicious/noExplicitAny: messages off a wire
export type Wire = Record<string, any>;

export const GREETING = {
  type: "connected",
  client_id: "6f1c2b3a-8d4e-4f5a-9b6c-7d8e9fa0b1c2",
  user_id: null,
  timestamp: "2024-12-29T12:00:00.123Z",
  role: "admin",
  reconnected: false,
  protocol: 1,
  epoch: "e1",
  heartbeat_s: 30,
  max_message_bytes: 65536,
  reconnection_token: "r.1",
  expires_in: 300,
};

/** What of it the user is told: all but the secret. */
export const { reconnection_token: _, ...TOLD } = GREETING;

/** The socket, seen from the server. */
export class FakeSocket implements SocketLike {
  onmessage: SocketLike["onmessage"] = null;
  onclose: SocketLike["onclose"] = null;
  onerror: SocketLike["onerror"] = null;
  /** All that the client has sent, parsed. */
  readonly sent: Wire[] = [];
  /** The code of the client's close. */
  closedWith: number | undefined;
  terminated = false;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}

  send(text: string): void {
    assert.equal(this.closedWith, undefined, "sent after the close");
    this.sent.push(JSON.parse(text));
  }

  close(code?: number): void {
    this.closedWith ??= code ?? 1005;
  }

  terminate(): void {
    this.terminated = true;
  }

  /** The server says this. */
  says(...messages: Wire[]): void {
    for (const message of messages) this.saysText(JSON.stringify(message));
  }

  saysText(data: unknown): void {
    this.onmessage?.({ data });
  }

  /** The connection ends. */
  ends(code = 1006, reason = ""): void {
    this.onclose?.({ code, reason });
  }

  /** What was sent of a type. */
  of(type: string): Wire[] {
    return this.sent.filter((message) => message.type === type);
  }

  get last(): Wire {
    return this.sent.at(-1) ?? {};
  }

  get query(): URLSearchParams {
    return new URL(this.url).searchParams;
  }
}

export interface Harness {
  client: NeurographWSClient;
  clock: FakeTimers.Clock;
  /** Every socket that was opened, the newest last. */
  sockets: FakeSocket[];
  /** What `on("error")` was told. */
  errors: (Error & { code?: string | number; channel?: string })[];
  /** Everything else that `on` was told, by name. */
  told: { name: string; payload: Wire }[];
  socket(): FakeSocket;
  /** Connect, greeted like this. */
  open(greeting?: Wire): Promise<FakeSocket>;
  /** The connection is lost and comes back, greeted like this. */
  comeBack(greeting?: Wire, code?: number): Promise<FakeSocket>;
}

export function harness(t: TestContext, options: Partial<ClientOptions> = {}): Harness {
  const clock = FakeTimers.install({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  t.after(() => clock.uninstall());
  t.mock.method(Math, "random", () => 0.5);
  const sockets: FakeSocket[] = [];
  class Socket extends FakeSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      sockets.push(this);
    }
  }
  const client = new NeurographWSClient({ url: "ws://router.test/ws", webSocket: Socket, ...options });
  const errors: Harness["errors"] = [];
  const told: Harness["told"] = [];
  client.on("error", (error) => errors.push(error));
  for (const name of [
    "connected",
    "disconnected",
    "pong",
    "gap",
    "reconnecting",
    "token_expiring",
    "goodbye",
  ] as const) {
    client.on(name, (payload: object) => told.push({ name, payload }));
  }
  const socket = () => {
    const newest = sockets.at(-1);
    assert(newest, "no socket was opened");
    return newest;
  };
  const greet = async (greeting: Wire) => {
    await settle();
    socket().says({ ...GREETING, ...greeting });
    await settle();
    return socket();
  };
  return {
    client,
    clock,
    sockets,
    errors,
    told,
    socket,
    open: async (greeting = {}) => {
      const connected = client.connect();
      await greet(greeting);
      await connected;
      return socket();
    },
    comeBack: async (greeting = {}, code = 1006) => {
      const before = sockets.length;
      socket().ends(code);
      await settle();
      clock.next();
      await settle();
      assert.equal(sockets.length, before + 1, "it did not come back");
      return greet(greeting);
    },
  };
}

/** Let everything run that waits for nothing but its turn. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export function event(seq: number | undefined, channel = "signals", data: object = {}): Wire {
  return { channel, timestamp: "2024-12-29T12:00:00.123Z", event_type: "x", data, seq };
}

/** The answer to the client's newest subscribe. */
export function subscribed(socket: FakeSocket, seqs: Record<string, number>, epoch = "e1"): Wire {
  const positions = Object.fromEntries(Object.entries(seqs).map(([name, seq]) => [name, { epoch, seq }]));
  const id = socket.of("subscribe").at(-1)?.id;
  return { type: "subscribed", id, channels: Object.keys(seqs), timestamp: "", positions };
}

export function published(id: unknown, seq = 1): Wire {
  return { type: "published", id, channel: "signals", seq: [seq, seq], subscribers: 1, timestamp: "" };
}

export function refusal(id: unknown, code: string, more: Wire = {}): Wire {
  return { type: "error", id, code, message: `because of ${code}`, ...more };
}
