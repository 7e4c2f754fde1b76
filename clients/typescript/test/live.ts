/** What the tests against the real router share: clients, routers and networks that end with the test. */
import { createHmac } from "node:crypto";
import { connect, createServer, type Server, type Socket } from "node:net";
import { after, before, type TestContext } from "node:test";
import WebSocket from "ws";
import { type ClientEvents, type ClientOptions, type Gap, NeurographWSClient } from "../src/index.js";
import { type Router, startRouter } from "./router.js";

/** For a whole test; it only ever passes where something hangs. */
export const DEADLINE = { timeout: 60_000 };

const endings = new WeakMap<TestContext, (() => unknown)[]>();

/** Like `after`, but the last first: clients go before their router. */
export function atEnd(t: TestContext, end: () => unknown): void {
  const known = endings.get(t);
  if (known) {
    known.push(end);
    return;
  }
  const all = [end];
  endings.set(t, all);
  t.after(async () => {
    for (const one of all.reverse()) await one();
  });
}

export function connectTo(t: TestContext, url: string, options: Partial<ClientOptions> = {}): NeurographWSClient {
  const client = new NeurographWSClient({ url, webSocket: WebSocket, ...options });
  atEnd(t, () => client.disconnect());
  return client;
}

export async function started(t: TestContext, settings = {}, port = 0): Promise<Router> {
  const router = await startRouter(settings, port);
  atEnd(t, () => router.stop());
  return router;
}

/** One router for all tests of a file that can do with the same, and with each other's events. */
export function shared(settings = {}): { url: string; port: number } {
  const router = { url: "", port: 0 };
  let stop: Router["stop"] | undefined;
  before(async () => {
    const one = await startRouter(settings);
    stop = one.stop;
    Object.assign(router, { url: one.url, port: one.port });
  });
  after(() => stop?.());
  return router;
}

export function once<N extends keyof ClientEvents>(client: NeurographWSClient, name: N): Promise<ClientEvents[N]> {
  return new Promise((resolve) => {
    const heard = (payload: ClientEvents[N]) => {
      client.off(name, heard);
      resolve(payload);
    };
    client.on(name, heard);
  });
}

/** The key with which routers of these tests check tokens. */
export const KEY = "a-secret-of-this-test-and-long-enough";

/** A JWT that is good for so many seconds. */
export function tokenFor(seconds: number, claims: object = {}): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "alice", role: "developer", exp, ...claims })}`;
  return `${signed}.${createHmac("sha256", KEY).update(signed).digest("base64url")}`;
}

/** A network between clients and a router, which may fail. */
export class Network {
  port = 0;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  private constructor(target: number) {
    this.#target = target;
  }

  static async to(t: TestContext, target: number): Promise<Network> {
    const network = new Network(target);
    await network.back();
    atEnd(t, () => network.cut());
    return network;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  /** Connections stay open and pass nothing from now on; later ones are well. */
  stall(): void {
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  /** Every connection is reset, and no other is possible. */
  async cut(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Connections are possible, on the same port as before. */
  async back(): Promise<void> {
    const server = createServer((near) => {
      const far = connect(this.#target, "127.0.0.1");
      near.pipe(far);
      far.pipe(near);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.on("error", () => {}); // `close` follows
        one.on("close", () => {
          this.#sockets.delete(one);
          other.destroy();
        });
      }
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.port, "127.0.0.1", resolve));
    this.port = (server.address() as { port: number }).port;
  }
}

/** Checks a channel's stream by positions: each event follows the last one, or a gap says what does not. */
export class Ledger {
  last = 0;
  /** Epochs that were seen to end. */
  breaks = 0;

  take(item: { seq?: number } | Gap): void {
    if ("of" in item) this.#takeGap(item);
    else if (item.seq !== this.last + 1) throw new Error(`${item.seq} came after ${this.last}`);
    else this.last++;
  }

  #takeGap({ from, to, reason }: Gap): void {
    if (from !== this.last + 1) throw new Error(`a gap from ${from} came after ${this.last}`);
    if (to === null) this.breaks++;
    if (to === null && reason !== "epoch_changed") throw new Error(`a gap without an end: ${reason}`);
    this.last = to ?? 0;
  }
}
