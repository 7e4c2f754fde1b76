import assert from "node:assert/strict";
import { test } from "node:test";
import { event, harness, refusal, settle, subscribed, type Wire } from "./harness.js";

const nothing = () => {};

/** Without their ids. */
function bare(messages: { id?: unknown }[]): object[] {
  return messages.map(({ id, ...message }) => {
    assert.notEqual(id, undefined);
    return message;
  });
}

test("subscriptions made before connecting are sent when connected, one message for equal options", async (t) => {
  const { client, open } = harness(t);
  client.subscribe("signals", nothing);
  client.subscribe("metrics", nothing, {});
  client.subscribe("logs", nothing, { policy: "latest", key: "data.service" });
  assert.deepEqual(client.getSubscriptions(), ["signals", "metrics", "logs"]);
  assert.deepEqual(bare((await open()).sent), [
    { type: "subscribe", channels: ["signals", "metrics"] },
    { type: "subscribe", channels: ["logs"], policy: "latest", key: "data.service" },
  ]);
});

test("subscriptions made in one turn are one message; subscribeMultiple is one", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  client.subscribe("signals", nothing);
  client.subscribe("metrics", nothing);
  await settle();
  client.subscribeMultiple(["logs", "actions"], nothing, { last: 5 });
  await settle();
  assert.deepEqual(bare(socket.sent), [
    { type: "subscribe", channels: ["signals", "metrics"] },
    { type: "subscribe", channels: ["logs", "actions"], last: 5 },
  ]);
});

test("a subscription is sent before what is published after it", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  client.subscribe("signals", nothing);
  client.publish("signals", "x").catch(nothing);
  assert.deepEqual(
    socket.sent.map(({ type }) => type),
    ["subscribe", "publish"],
  );
});

test("all options are sent; recover for the channels that it names", async (t) => {
  const { client, open } = harness(t);
  const filter = { "data.priority": { $gte: 200 } };
  const recover = { signals: { epoch: "e0", seq: 4 }, nope: { epoch: "e0", seq: 1 } };
  client.subscribeMultiple(["signals", "logs"], nothing, { filter, policy: "drop_newest", recover });
  client.subscribe("actions", nothing, { since: "2024-12-29T12:00:00Z" });
  assert.deepEqual(bare((await open()).sent), [
    {
      type: "subscribe",
      channels: ["signals", "logs"],
      filter,
      policy: "drop_newest",
      recover: { signals: { epoch: "e0", seq: 4 } },
    },
    { type: "subscribe", channels: ["actions"], since: "2024-12-29T12:00:00Z" },
  ]);
  assert.deepEqual(client.getConnectionInfo().positions, { signals: { epoch: "e0", seq: 4 } });
});

test("options are copied, and those that cannot be sent fail in the call", async (t) => {
  const { client, open } = harness(t);
  const filter = { event_type: "x" };
  client.subscribe("signals", nothing, { filter });
  filter.event_type = "y";
  assert.deepEqual((await open()).last.filter, { event_type: "x" });
  assert.throws(() => client.subscribe("logs", nothing, { filter: { seq: 1n } }), TypeError);
  assert.throws(() => client.subscribe(5 as unknown as string), TypeError);
  assert.deepEqual(client.getSubscriptions(), ["signals"]);
});

test("the newest options hold for the channel; none leave it as it is", async (t) => {
  const { client, open } = harness(t);
  client.subscribe("signals", nothing, { policy: "disconnect" });
  const socket = await open();
  socket.says(subscribed(socket, { signals: 4 }));
  client.subscribe("signals", () => {});
  await settle();
  assert.equal(socket.sent.length, 1);
  client.subscribe("signals", () => {}, { policy: "latest" });
  await settle();
  assert.deepEqual(bare(socket.sent.slice(1)), [
    { type: "subscribe", channels: ["signals"], policy: "latest", recover: { signals: { epoch: "e1", seq: 4 } } },
  ]);
});

test("where a loop with options is left, those of the others come back", async (t) => {
  const { client, open } = harness(t);
  const filter = { "data.priority": { $gte: 200 } };
  client.subscribe("signals", nothing);
  client.subscribe("logs", nothing, { policy: "latest" });
  const socket = await open();
  socket.says(subscribed(socket, { logs: 3 }));
  const loops = ["signals", "logs"].map((channel) => client.events(channel, { filter }));
  await settle();
  socket.says(subscribed(socket, { signals: 7, logs: 3 }));
  socket.sent.length = 0;
  for (const loop of loops) await loop.return?.();
  await settle();
  assert.deepEqual(bare(socket.sent), [
    { type: "subscribe", channels: ["signals"], recover: { signals: { epoch: "e1", seq: 7 } } },
    { type: "subscribe", channels: ["logs"], policy: "latest", recover: { logs: { epoch: "e1", seq: 3 } } },
  ]);
});

test("of several handlers' options the newest hold while they last, and an older one that goes changes nothing", async (t) => {
  const { client, open } = harness(t);
  const [a, b, c] = [() => {}, () => {}, () => {}];
  client.subscribe("signals", a, { policy: "drop_newest" });
  client.subscribe("signals", b, { policy: "latest", last: 5 });
  client.subscribe("signals", c, { policy: "latest" });
  client.subscribe("signals", a, { policy: "disconnect" });
  const socket = await open();
  socket.says(subscribed(socket, { signals: 1 }));
  const policies = async (handler: () => void) => {
    client.unsubscribe("signals", handler);
    await settle();
    return socket.of("subscribe").map(({ policy }) => policy);
  };
  assert.deepEqual(await policies(b), ["disconnect"]);
  assert.deepEqual(await policies(a), ["disconnect", "latest"]);
  assert.deepEqual(await policies(c), ["disconnect", "latest"]);
  assert.equal(socket.of("unsubscribe").length, 1);
});

test("several handlers get each event, and the last one to go unsubscribes", async (t) => {
  const { client, open } = harness(t);
  const seen: unknown[] = [];
  const a = ({ seq }: { seq?: number }) => seen.push(["a", seq]);
  const b = ({ seq }: { seq?: number }) => seen.push(["b", seq]);
  client.subscribe("signals", a);
  client.subscribe("signals", a);
  client.subscribe("signals", b);
  const socket = await open();
  socket.says(subscribed(socket, { signals: 0 }), event(1));
  client.unsubscribe("signals", a);
  client.unsubscribe("signals", () => {}); // not one of them
  await settle();
  socket.says(event(2));
  assert.equal(socket.of("unsubscribe").length, 0);
  client.unsubscribe("signals", b);
  await settle();
  assert.deepEqual(bare(socket.of("unsubscribe")), [{ type: "unsubscribe", channels: ["signals"] }]);
  socket.says(event(3));
  assert.deepEqual(seen, [
    ["a", 1],
    ["b", 1],
    ["b", 2],
  ]);
  assert.deepEqual(client.getSubscriptions(), []);
});

test("unsubscribe without a handler takes them all; of a channel that is not wanted it is nothing", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  client.subscribeMultiple(["signals", "logs"], nothing);
  client.subscribe("signals", () => {});
  await settle();
  client.unsubscribe("signals");
  client.unsubscribe("nope");
  await settle();
  assert.deepEqual(bare(socket.of("unsubscribe")), [{ type: "unsubscribe", channels: ["signals"] }]);
});

test("unsubscribed and subscribed anew in one turn is one subscribe", async (t) => {
  const { client, open } = harness(t);
  client.subscribe("signals", nothing, { policy: "latest" });
  const socket = await open();
  client.unsubscribe("signals");
  client.subscribe("signals", nothing);
  await settle();
  assert.deepEqual(bare(socket.sent.slice(1)), [{ type: "subscribe", channels: ["signals"] }]);
});

test("a channel refused is told by `error`, and asked for at the next connection", async (t) => {
  const { client, open, comeBack, errors } = harness(t);
  client.subscribeMultiple(["signals", "nope"], nothing);
  const socket = await open();
  const denied = { denied: ["nope"], reasons: { nope: "unknown_channel" }, message: "Unknown channels: nope" };
  socket.says({ ...subscribed(socket, { signals: 1 }), ...denied });
  assert.deepEqual(
    errors.map(({ code, channel, message }) => [code, channel, message]),
    [["unknown_channel", "nope", "no subscription to nope: unknown_channel"]],
  );
  const session = { reconnected: true, channels: ["signals"], positions: {} };
  assert.deepEqual(
    (await comeBack(session)).of("subscribe").map(({ channels }) => channels),
    [["nope"]],
  );
});

test("a channel refused is asked for after authenticated, and when it is subscribed again", async (t) => {
  const { client, open } = harness(t);
  client.subscribe("logs", nothing);
  const socket = await open();
  const denied = { denied: ["logs"], reasons: { logs: "permission_denied" } };
  socket.says({ ...subscribed(socket, {}), ...denied });
  client.subscribe("logs", () => {});
  await settle();
  assert.equal(socket.of("subscribe").length, 2);
  socket.says({ ...subscribed(socket, {}), ...denied });
  socket.says({ type: "authenticated", user_id: "u", role: "developer", expires_at: null, timestamp: "" });
  assert.equal(socket.of("subscribe").length, 3);
  assert.equal(client.getConnectionInfo().role, "developer");
});

test("a session resumed with less says what is denied, once", async (t) => {
  const { client, open, comeBack, errors } = harness(t);
  client.subscribe("logs", nothing);
  const socket = await open();
  socket.says(subscribed(socket, { logs: 1 }));
  const again = await comeBack({ reconnected: true, channels: [], positions: {}, denied: ["logs"] });
  assert.deepEqual(
    errors.map(({ code, channel }) => [code, channel]),
    [["permission_denied", "logs"]],
  );
  assert.deepEqual(again.of("subscribe"), []);
});

test("unsubscribed by the server is told by `error`; the reply to ours is not", async (t) => {
  const { client, open, errors } = harness(t);
  client.subscribe("logs", nothing);
  const socket = await open();
  socket.says({ type: "unsubscribed", channels: ["logs"], timestamp: "" });
  assert.deepEqual(errors, []);
  socket.says({ type: "unsubscribed", channels: ["logs"], timestamp: "", reason: "unknown_channel" });
  assert.deepEqual(
    errors.map(({ code, channel }) => [code, channel]),
    [["unknown_channel", "logs"]],
  );
});

test("an option that is no good is told for each of the channels", async (t) => {
  const { client, open, errors } = harness(t);
  client.subscribeMultiple(["signals", "logs"], nothing, { filter: { x: { $near: 1 } } });
  const socket = await open();
  socket.says(refusal(socket.last.id, "invalid_filter"));
  assert.deepEqual(
    errors.map(({ code, channel }) => [code, channel]),
    [
      ["invalid_filter", "signals"],
      ["invalid_filter", "logs"],
    ],
  );
});

test("rate_limited: asked again after retry_after, unless things have changed", async (t) => {
  const { client, clock, open } = harness(t);
  client.subscribe("signals", nothing);
  const socket = await open();
  socket.says(refusal(socket.last.id, "rate_limited", { retry_after: 0.5 }));
  clock.tick(499);
  assert.equal(socket.sent.length, 1);
  clock.tick(1);
  assert.deepEqual(bare(socket.sent.slice(1)), [{ type: "subscribe", channels: ["signals"] }]);
  socket.says(subscribed(socket, { signals: 1 }));
  client.unsubscribe("signals");
  await settle();
  socket.says(refusal(socket.last.id, "rate_limited", { retry_after: 0.5 }));
  clock.tick(500);
  assert.equal(socket.of("unsubscribe").length, 2);
  socket.says(refusal(socket.last.id, "rate_limited", { retry_after: 0.5 }));
  client.subscribe("signals", nothing);
  await settle();
  clock.tick(500);
  assert.equal(socket.of("unsubscribe").length, 2);
});

test("rate_limited: the newest options are asked for again, whatever is said of older ones", async (t) => {
  const { client, clock, open } = harness(t);
  const socket = await open();
  for (const n of [1, 2, 3]) {
    client.subscribe("signals", nothing, { filter: { "data.n": n } });
    await settle();
  }
  const [first, second, third] = socket.of("subscribe") as [Wire, Wire, Wire];
  const positions = { signals: { epoch: "e1", seq: 1 } };
  for (const { id } of [first, second]) socket.says({ type: "subscribed", id, channels: ["signals"], positions });
  socket.says(refusal(third.id, "rate_limited", { retry_after: 0.5 }));
  clock.tick(500);
  assert.deepEqual(
    socket.of("subscribe").map(({ filter }) => filter["data.n"]),
    [1, 2, 3, 3],
  );
});

test("what is refused of older options says nothing of the newest", async (t) => {
  const { client, clock, open, comeBack } = harness(t);
  const socket = await open();
  for (const n of [1, 2, 3]) {
    client.subscribe("signals", nothing, { filter: { "data.n": n } });
    await settle();
  }
  const [first, second, third] = socket.of("subscribe") as [Wire, Wire, Wire];
  socket.says(refusal(first.id, "invalid_filter"), refusal(second.id, "rate_limited", { retry_after: 0.5 }));
  const positions = { signals: { epoch: "e1", seq: 1 } };
  socket.says({ type: "subscribed", id: third.id, channels: ["signals"], positions });
  client.subscribe("signals", () => {});
  await settle();
  clock.tick(500);
  assert.equal(socket.of("subscribe").length, 3);
  const again = await comeBack({ reconnected: true, channels: ["signals"], positions });
  assert.deepEqual(again.of("subscribe"), []);
});

test("rate_limited: what was subscribed again meanwhile is not unsubscribed", async (t) => {
  const { client, clock, open } = harness(t);
  client.subscribe("signals", nothing);
  const socket = await open();
  client.unsubscribe("signals");
  await settle();
  const { id } = socket.last;
  client.subscribe("signals", nothing);
  await settle();
  socket.says(refusal(id, "rate_limited", { retry_after: 0.5 }));
  clock.tick(500);
  assert.equal(socket.of("unsubscribe").length, 1);
});

test("a message that the server would close for is not sent", async (t) => {
  const { client, open, errors } = harness(t);
  const socket = await open({ max_message_bytes: 200 });
  client.subscribe("signals", nothing, { filter: { event_type: "é".repeat(90) } });
  await settle();
  assert.deepEqual(socket.sent, []);
  assert.deepEqual(
    errors.map(({ code, channel }) => [code, channel]),
    [["payload_too_large", "signals"]],
  );
  client.subscribe("logs", nothing, { filter: { event_type: "é".repeat(20) } });
  await settle();
  assert.equal(socket.sent.length, 1);
});

test("personal and global are heard without asking the server", async (t) => {
  const { client, open } = harness(t);
  const seen: unknown[] = [];
  client.subscribeMultiple(["personal", "global"], ({ channel }) => seen.push(channel));
  const socket = await open();
  assert.deepEqual(socket.sent, []);
  socket.says(event(undefined, "personal"), event(undefined, "global"), event(undefined, "personal"));
  assert.deepEqual(seen, ["personal", "global", "personal"]);
});

test("unsubscribed and subscribed anew in one turn: for a past it has to be a new subscription", async (t) => {
  const { client, open } = harness(t);
  client.subscribe("signals", nothing);
  const socket = await open();
  socket.says(subscribed(socket, { signals: 9 }));
  client.unsubscribe("signals");
  client.subscribe("signals", nothing, { last: 2 });
  await settle();
  assert.deepEqual(bare(socket.sent.slice(1)), [
    { type: "unsubscribe", channels: ["signals"] },
    { type: "subscribe", channels: ["signals"], last: 2 },
  ]);
});

test("what still comes of a subscription that was left is not for the next one", async (t) => {
  const { client, open } = harness(t);
  client.subscribe("signals", nothing);
  const socket = await open();
  socket.says(subscribed(socket, { signals: 7 }));
  client.unsubscribe("signals");
  await settle();
  const { id } = socket.last;
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq), { last: 2 });
  await settle();
  const gap = { type: "gap", of: "signals", epoch: "e1", from: 9, to: 20, count: 12, reason: "slow_consumer" };
  socket.says(event(8), gap, { type: "position", positions: { signals: { epoch: "e1", seq: 20 } } });
  socket.says({ type: "unsubscribed", id, channels: ["signals"], timestamp: "" });
  socket.says(subscribed(socket, { signals: 6 }), event(7), event(8));
  assert.deepEqual(seen, [7, 8]);
});

test("left while away and wanted anew with a past: the session's subscription ends first", async (t) => {
  const { client, open, comeBack } = harness(t);
  client.subscribe("signals", nothing);
  const socket = await open();
  socket.says(subscribed(socket, { signals: 7 }));
  socket.ends();
  client.unsubscribe("signals");
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq), { last: 2 });
  const positions = { signals: { epoch: "e1", seq: 7 } };
  const next = await comeBack({ reconnected: true, channels: ["signals"], positions });
  assert.deepEqual(bare(next.sent), [
    { type: "resume", positions: {} },
    { type: "unsubscribe", channels: ["signals"] },
    { type: "subscribe", channels: ["signals"], last: 2 },
  ]);
});
