/** Whatever happens on the way: each event once, in order, and what is missing is said. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { event, type FakeSocket, type Harness, harness, settle, type Wire } from "./harness.js";

/** A server with one channel, whose messages are on their way until the network delivers them. */
class Server {
  /** How many events each epoch has had; its number is its name. */
  readonly heads = [0];
  /** Where the session stands, if there is one. */
  #mark: number | undefined;
  #socket: FakeSocket | undefined;
  #live = false;
  #read = 0;
  #pipe: Wire[] = [];

  get #epoch(): string {
    return `e${this.heads.length}`;
  }

  get #head(): number {
    return this.heads.at(-1) ?? 0;
  }

  accept(socket: FakeSocket): void {
    this.#socket = socket;
    this.#read = 0;
    this.#live = false;
    const reconnected = socket.query.has("resume") && this.#mark !== undefined;
    const positions = { signals: { epoch: this.#epoch, seq: this.#mark ?? 0 } };
    this.#pipe = [this.#greeting(reconnected ? { reconnected, channels: ["signals"], positions } : {})];
  }

  #greeting(more: Wire): Wire {
    const greeting = { type: "connected", client_id: "c", user_id: null, role: "admin", reconnected: false };
    return { ...greeting, epoch: this.#epoch, heartbeat_s: 30, reconnection_token: "r", ...more };
  }

  publish(): void {
    this.heads[this.heads.length - 1] = this.#head + 1;
    if (this.#live) this.#send(event(this.#head));
  }

  /** The network brings so many messages to the client, and what that says back to the server. */
  deliver(count: number): void {
    for (const message of this.#pipe.splice(0, count)) this.#socket?.says(message);
    for (; this.#socket && this.#read < this.#socket.sent.length; this.#read++) {
      this.#hear(this.#socket.sent[this.#read] as Wire);
    }
  }

  get waiting(): number {
    return this.#pipe.length;
  }

  cut(): void {
    this.#pipe = [];
    this.#live = false;
    this.#socket?.ends();
  }

  forget(): void {
    this.#mark = undefined;
    this.cut();
  }

  restart(): void {
    this.heads.push(0);
    this.forget();
  }

  #hear({ type, id, positions, recover }: Wire): void {
    if (type === "resume") {
      this.#replay(positions.signals ?? { epoch: this.#epoch, seq: this.#mark });
      this.#pipe.push({ type: "resumed", id, channels: ["signals"], replayed: 0 });
    }
    if (type !== "subscribe") return;
    if (this.#live) {
      // What is subscribed already takes new options, and its past is not sent again.
      const positions = { signals: { epoch: this.#epoch, seq: this.#head } };
      this.#pipe.push({ type: "subscribed", id, channels: ["signals"], positions });
      return;
    }
    const from = recover?.signals ?? { epoch: this.#epoch, seq: this.#head };
    const seq = from.epoch === this.#epoch ? from.seq : 0;
    this.#pipe.push({
      type: "subscribed",
      id,
      channels: ["signals"],
      positions: { signals: { epoch: this.#epoch, seq } },
    });
    this.#replay(from);
  }

  #replay({ epoch, seq }: Wire): void {
    if (epoch !== this.#epoch) {
      const gap = { type: "gap", of: "signals", epoch, from: seq + 1, to: null, count: null, reason: "epoch_changed" };
      this.#pipe.push(gap, { type: "position", positions: { signals: { epoch: this.#epoch, seq: 0 } } });
    }
    this.#live = true;
    for (let next = epoch === this.#epoch ? seq + 1 : 1; next <= this.#head; next++) this.#send(event(next));
  }

  #send(message: Wire): void {
    this.#pipe.push(message);
    this.#mark = message.seq;
  }
}

const STEPS = {
  publish: { weight: 6, act: (server: Server) => server.publish() },
  deliver: { weight: 4, act: (server: Server) => server.deliver(1) },
  deliverAll: { weight: 2, act: (server: Server) => server.deliver(server.waiting) },
  cut: { weight: 2, act: (server: Server) => server.cut() },
  forget: { weight: 1, act: (server: Server) => server.forget() },
  restart: { weight: 1, act: (server: Server) => server.restart() },
};

const steps = fc.array(
  fc.oneof(
    ...Object.entries(STEPS).map(([name, { weight }]) => ({
      weight,
      arbitrary: fc.constant(name as keyof typeof STEPS),
    })),
  ),
  { maxLength: 60 },
);

test("each event once and in order, or a gap, through cuts, lost sessions and restarts", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (names) => {
      const cleanup: (() => void)[] = [];
      const context = { after: (fn: () => void) => cleanup.push(fn), mock: { method: () => {} } };
      try {
        await run(harness(context as unknown as TestContext), names);
      } finally {
        for (const fn of cleanup) fn();
      }
    }),
    { numRuns: 200 },
  );
});

async function run({ client, clock, sockets, errors, socket }: Harness, names: (keyof typeof STEPS)[]): Promise<void> {
  const server = new Server();
  /** By epoch, as the client understands it. */
  const seen = new Map<string, (number | undefined)[]>();
  const gaps: Wire[] = [];
  client.on("gap", (gap) => gaps.push(gap));
  client.subscribe("signals", ({ seq }) => {
    const epoch = client.getConnectionInfo().positions.signals?.epoch ?? "";
    seen.set(epoch, [...(seen.get(epoch) ?? []), seq]);
  });
  const reconnect = async () => {
    if (client.getConnectionInfo().state === "waiting") clock.next();
    await settle();
    server.accept(socket());
  };
  client.connect();
  server.accept(socket());
  // Subscribed, so that from now on every event is owed to it.
  server.deliver(1);
  server.deliver(1);
  for (const name of names) {
    const before = sockets.length;
    STEPS[name].act(server);
    await settle();
    if (client.getConnectionInfo().state === "waiting") await reconnect();
    assert(sockets.length - before <= 1);
  }
  for (let turn = 0; turn < 5; turn++) server.deliver(server.waiting);
  assert.deepEqual(errors, []);
  server.heads.forEach((head, index) => {
    const epoch = `e${index + 1}`;
    const got = seen.get(epoch) ?? [];
    assert.deepEqual(
      got,
      Array.from(got, (_, n) => n + 1),
      `${epoch}: once, in order, no hole`,
    );
    if (index === server.heads.length - 1) assert.equal(got.length, head, `${epoch}: all of the present epoch`);
    else if (gaps.some((gap) => gap.epoch === epoch)) {
      // Told again where the connection was cut before the new position came.
      const told = new Set(gaps.filter((gap) => gap.epoch === epoch).map(({ from }) => from));
      assert.deepEqual([...told], [got.length + 1]);
    } else assert.deepEqual(got, [], `${epoch}: the client never came to it`);
  });
  const ending = client.disconnect();
  socket().ends(1000);
  await ending;
  assert.equal(clock.countTimers(), 0);
}
