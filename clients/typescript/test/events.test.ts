import assert from "node:assert/strict";
import { test } from "node:test";
import { ConnectionError, type Gap, NeurographWSClient } from "../src/index.js";
import { event, FakeSocket, harness, settle, subscribed } from "./harness.js";

const gap = (from: number | null, to: number | null, more: object = {}) => {
  const count = from === null || to === null ? null : to - from + 1;
  return { type: "gap", of: "signals", epoch: "e1", from, to, count, reason: "slow_consumer", ...more };
};

test("a handler gets the event whole", async (t) => {
  const { client, open } = harness(t);
  const seen: unknown[] = [];
  client.subscribe("signals", (one) => seen.push(one));
  const socket = await open();
  const whole = { ...event(1, "signals", { priority: 3, nested: [{}] }), later: true };
  socket.says(subscribed(socket, { signals: 0 }), whole);
  assert.deepEqual(seen, [whole]);
});

test("the position moves when the handlers are done with the event", async (t) => {
  const { client, open } = harness(t);
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push([seq, client.getConnectionInfo().positions.signals?.seq]));
  const socket = await open();
  socket.says(subscribed(socket, { signals: 0 }), event(1), event(5));
  assert.deepEqual(seen, [
    [1, 0],
    [5, 1],
  ]);
  assert.deepEqual(client.getConnectionInfo().positions, { signals: { epoch: "e1", seq: 5 } });
});

test("repetitions are dropped", async (t) => {
  const { client, open } = harness(t);
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq));
  const socket = await open();
  socket.says(subscribed(socket, { signals: 2 }), ...[2, 3, 3, 1, 5, 4, 6].map((seq) => event(seq)));
  assert.deepEqual(seen, [3, 5, 6]);
});

test("after another epoch lower seqs are news", async (t) => {
  const { client, open, comeBack, told } = harness(t);
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq));
  const first = await open();
  first.says(subscribed(first, { signals: 41 }), event(42));
  const again = await comeBack({ epoch: "e2" });
  assert.deepEqual(again.last.recover, { signals: { epoch: "e1", seq: 42 } });
  const changed = gap(43, null, { reason: "epoch_changed" });
  again.says({ ...subscribed(again, { signals: 0 }, "e2"), recovered: { signals: false } }, changed);
  assert.deepEqual(client.getConnectionInfo().positions.signals, { epoch: "e1", seq: 42 });
  again.says({ type: "position", positions: { signals: { epoch: "e2", seq: 0 } } }, event(1), event(2));
  assert.deepEqual(seen, [42, 1, 2]);
  assert.deepEqual(told.at(-1), { name: "gap", payload: changed });
  assert.deepEqual(client.getConnectionInfo().positions.signals, { epoch: "e2", seq: 2 });
});

test("positions told are copies", async (t) => {
  const { client, open } = harness(t);
  client.subscribe("signals", () => {});
  const socket = await open();
  socket.says(subscribed(socket, { signals: 1 }));
  const { positions } = client.getConnectionInfo();
  socket.says(event(2));
  assert.deepEqual(positions, { signals: { epoch: "e1", seq: 1 } });
});

test("a handler that throws is reported and harms nothing", async (t) => {
  const { client, open, errors } = harness(t);
  const seen: unknown[] = [];
  const cause = new Error("oh");
  client.subscribe("signals", () => {
    throw cause;
  });
  client.subscribe("signals", ({ seq }) => seen.push(seq));
  const socket = await open();
  socket.says(subscribed(socket, { signals: 0 }), event(1), event(2));
  assert.deepEqual(seen, [1, 2]);
  assert.equal(client.getConnectionInfo().positions.signals?.seq, 2);
  assert.equal(client.isConnected(), true);
  assert.deepEqual(
    errors.map(({ code, channel, cause }) => [code, channel, cause]),
    [
      ["handler_failed", "signals", cause],
      ["handler_failed", "signals", cause],
    ],
  );
});

test("an async handler is not waited for, and its rejection is reported", async (t) => {
  const { client, open, errors } = harness(t);
  const seen: unknown[] = [];
  client.subscribe("signals", async ({ seq }) => {
    seen.push(seq);
    await null;
    throw new Error(`at ${seq}`);
  });
  const socket = await open();
  socket.says(subscribed(socket, { signals: 0 }), event(1), event(2), { type: "ping", timestamp: "" });
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(socket.last, { type: "pong" });
  await settle();
  assert.deepEqual(
    errors.map(({ cause }) => (cause as Error).message),
    ["at 1", "at 2"],
  );
});

test("a handler may subscribe, unsubscribe and disconnect", async (t) => {
  const { client, open, errors } = harness(t);
  const seen: unknown[] = [];
  const once = ({ seq }: { seq?: number }) => {
    seen.push(seq);
    client.unsubscribe("signals", once);
    client.subscribe("signals", ({ seq }) => {
      seen.push(seq);
      client.disconnect();
    });
  };
  client.subscribe("signals", once);
  const socket = await open();
  socket.says(subscribed(socket, { signals: 0 }), event(1), event(2), event(3));
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(errors, []);
});

test("a callback of `on` that throws is reported; one for errors goes to the console", async (t) => {
  const { client, open, errors } = harness(t);
  const failing = () => {
    throw new Error("oh");
  };
  client.on("connected", failing);
  client.on("pong", async () => failing());
  const socket = await open();
  socket.says({ type: "pong", timestamp: "" });
  await settle();
  assert.deepEqual(
    errors.map(({ message }) => message),
    ['the handler of on("connected") failed: Error: oh', 'the handler of on("pong") failed: Error: oh'],
  );
  const said = t.mock.method(console, "error", () => {});
  client.on("error", failing);
  socket.says({ type: "error", code: "internal", message: "so" });
  assert.equal(said.mock.callCount(), 1);
  assert.equal(errors.length, 3);
});

test("off takes a callback away, and unknown names are errors that list the known ones", async (t) => {
  const { client, open } = harness(t);
  const calls: unknown[] = [];
  const callback = () => calls.push(1);
  client.on("connected", callback);
  client.off("connected", callback);
  await open();
  assert.deepEqual(calls, []);
  const wrong = "conected" as "connected";
  assert.throws(() => client.on(wrong, callback), /"conected"; there are connected, disconnected, error, pong, gap/);
  assert.throws(() => client.off(wrong, callback), RangeError);
});

test("an error that nobody listens for goes to the console", async (t) => {
  const said = t.mock.method(console, "error", () => {});
  const client = new NeurographWSClient({ url: "ws://router.test/ws", webSocket: FakeSocket });
  client.disconnect();
  client.publish("signals", "x");
  await settle();
  assert.deepEqual(
    said.mock.calls.map(({ arguments: [error] }) => error.code),
    ["client_closed"],
  );
});

test("an error without an id is told", async (t) => {
  const { open, errors } = harness(t);
  (await open()).says({ type: "error", code: "internal", message: "so" });
  assert.deepEqual(
    errors.map(({ code, message }) => [code, message]),
    [["internal", "so"]],
  );
});

// --- loops ---

test("for await gets each event, and leaving it unsubscribes", async (t) => {
  const { client, open } = harness(t);
  const events = client.events("signals", { last: 2 });
  const socket = await open();
  assert.equal(socket.last.last, 2);
  socket.says(subscribed(socket, { signals: 0 }), event(1), event(2), event(3));
  const seen: unknown[] = [];
  for await (const { seq } of events) {
    seen.push(seq);
    if (seq === 2) break;
  }
  await settle();
  assert.deepEqual(seen, [1, 2]);
  assert.equal(socket.last.type, "unsubscribe");
  assert.deepEqual(client.getSubscriptions(), []);
  assert.deepEqual(await events.next(), { value: undefined, done: true });
});

test("a loop that waits is given the next event, also several at once", async (t) => {
  const { client, open } = harness(t);
  const events = client.events("signals");
  const socket = await open();
  const both = Promise.all([events.next(), events.next()]);
  socket.says(event(1), event(2), event(3));
  assert.deepEqual(
    (await both).map(({ value }) => value.seq),
    [1, 2],
  );
  assert.equal((await events.next()).value.seq, 3);
});

test("loops and handlers share a channel", async (t) => {
  const { client, open } = harness(t);
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq));
  const [one, two] = [client.events("signals"), client.events("signals")];
  const socket = await open();
  socket.says(event(1));
  assert.deepEqual([(await one.next()).value.seq, (await two.next()).value.seq, seen], [1, 1, [1]]);
  await one.return?.();
  socket.says(event(2));
  assert.equal((await two.next()).value.seq, 2);
  assert.deepEqual(seen, [1, 2]);
  assert.equal(socket.of("unsubscribe").length, 0);
});

test("gaps stand at their place where they are asked for, and are told by `gap`", async (t) => {
  const { client, open, told } = harness(t);
  const withGaps = client.events("signals", { gaps: true });
  const without = client.events("signals");
  const socket = await open();
  socket.says(subscribed(socket, { signals: 0 }), event(1), gap(1, 1, { of: "logs" }), gap(2, 4), event(5));
  const items = [];
  for (let n = 0; n < 3; n++) items.push((await withGaps.next()).value);
  assert.deepEqual(items, [event(1), gap(2, 4), event(5)]);
  assert.deepEqual([(await without.next()).value.seq, (await without.next()).value.seq], [1, 5]);
  assert.deepEqual(
    told.slice(1).map(({ payload }) => payload),
    [gap(1, 1, { of: "logs" }), gap(2, 4)],
  );
});

test("a loop that is too slow loses the oldest, and is told so at their place", async (t) => {
  const { client, open, told } = harness(t);
  const events = client.events("signals", { gaps: true, buffer: 3 });
  const quiet = client.events("signals", { buffer: 3 });
  const socket = await open();
  socket.says(subscribed(socket, { signals: 0 }), event(1), gap(2, 4), ...[5, 6, 7, 8].map((seq) => event(seq)));
  assert.equal(told.length, 2, "told when the loop gets there");
  const items: unknown[] = [];
  for (let n = 0; n < 4; n++) items.push((await events.next()).value);
  const lost: Gap = { type: "gap", of: "signals", epoch: "e1", from: 1, to: 5, count: 5, reason: "client_overflow" };
  assert.deepEqual(items, [lost, event(6), event(7), event(8)]);
  assert.deepEqual(told.at(-1)?.payload, lost);
  assert.equal((await quiet.next()).value.seq, 6);
  assert.equal(told.at(-1)?.payload.count, 2, "1 and 5: of the gap it was told");
});

test("what overflows without seq is counted", async (t) => {
  const { client, open } = harness(t);
  const events = client.events("personal", { gaps: true, buffer: 1 });
  const socket = await open();
  socket.says(...[1, 2, 3].map(() => event(undefined, "personal")));
  const { from, to, count, reason } = (await events.next()).value;
  assert.deepEqual({ from, to, count, reason }, { from: null, to: null, count: 2, reason: "client_overflow" });
});

test("an overflow over a gap of unknown size has no count", async (t) => {
  const { client, open } = harness(t);
  const events = client.events("signals", { gaps: true, buffer: 1 });
  const socket = await open();
  socket.says(event(1), gap(2, null, { reason: "epoch_changed" }), event(1), event(2));
  const { from, count } = (await events.next()).value;
  assert.deepEqual({ from, count }, { from: 1, count: null });
});

test("a loop that was left gets no more", async (t) => {
  const { client, open } = harness(t);
  const events = client.events("signals", { gaps: true });
  const socket = await open();
  socket.says(event(1));
  await events.return?.();
  socket.says(event(2), gap(3, 4));
  assert.equal((await events.next()).done, true);
});

test("disconnect ends loops, after what waits", async (t) => {
  const { client, open } = harness(t);
  const events = client.events("signals");
  const waiting = client.events("logs").next();
  const socket = await open();
  socket.says(event(1));
  client.disconnect();
  assert.deepEqual(await waiting, { value: undefined, done: true });
  assert.equal((await events.next()).value.seq, 1);
  assert.equal((await events.next()).done, true);
});

test("where the server ends the connection for good, loops throw, once", async (t) => {
  const { client, open } = harness(t);
  const events = client.events("signals");
  const socket = await open();
  socket.says(event(1));
  socket.ends(4500, "an administrator");
  assert.equal((await events.next()).value.seq, 1);
  await assert.rejects(events.next(), new ConnectionError(4500, "an administrator"));
  assert.equal((await events.next()).done, true);
});

test("unsubscribe ends the channel's loops, and no others", async (t) => {
  const { client, open } = harness(t);
  const [signals, logs] = [client.events("signals"), client.events("logs")];
  const socket = await open();
  client.unsubscribe("signals");
  assert.equal((await signals.next()).done, true);
  await settle();
  assert.deepEqual(socket.last.channels, ["signals"]);
  socket.says(event(1, "logs"));
  assert.equal((await logs.next()).value.seq, 1);
  const next = logs.next();
  socket.says(event(2, "logs"));
  assert.equal((await next).value.seq, 2);
});
