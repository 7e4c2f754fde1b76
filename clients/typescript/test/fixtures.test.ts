/** The contract's cases: what the server may say, what a client makes of it, and what the client says. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { isRetryable } from "../src/codes.js";
import { type FakeSocket, GREETING, type Harness, harness, settle, type Wire } from "./harness.js";
import { cases, textOf } from "./wire.js";

/** Every field that is expected is there, with this value; lists match whole. */
function assertHas(actual: unknown, expected: unknown, where = "message"): void {
  if (typeof expected !== "object" || expected === null) {
    assert.strictEqual(actual, expected, where);
    return;
  }
  assert(typeof actual === "object" && actual !== null, where);
  if (Array.isArray(expected)) assert.equal((actual as unknown[]).length, expected.length, where);
  for (const [name, value] of Object.entries(expected)) assertHas((actual as Wire)[name], value, `${where}.${name}`);
}

const CHANNELS = [
  "metrics",
  "signals",
  "actions",
  "logs",
  "status",
  "connections",
  "personal",
  "global",
  "sensors.room-1",
];
/** Told by `on` under their own names. */
const TOLD = ["pong", "gap", "token_expiring", "goodbye"];

for (const { name, type, text, message } of cases("server_messages")) {
  test(`the server says: ${name}`, async (t) => {
    const { client, socket, open, told, errors } = harness(t);
    const seen: unknown[] = [];
    if (type === "connected") {
      const connecting = client.connect();
      socket().saysText(text);
      const { reconnection_token, ...rest } = message;
      assert.equal(typeof reconnection_token, "string");
      const told = await connecting;
      assertHas(told, rest);
      assert(!("reconnection_token" in told));
      assertHas(client.getConnectionInfo(), {
        clientId: message.client_id,
        userId: message.user_id,
        role: message.role,
      });
      if (!message.denied) assert.deepEqual(errors, []);
      return;
    }
    client.subscribeMultiple(CHANNELS, (event) => seen.push(event));
    const server = await open();
    const [sentBefore, toldBefore] = [server.sent.length, told.length];
    server.saysText(text);
    assert.equal(client.isConnected(), true);
    assert.equal(server.closedWith, undefined);
    if (type === "event") {
      assert.equal(seen.length, 1);
      assertHas(seen[0], message);
    } else assert.deepEqual(seen, []);
    if (type === "error") {
      assert.deepEqual(
        errors.map(({ code, message }) => [code, message]),
        [[message.code, message.message]],
      );
    } else {
      const refused = message?.denied ?? (message?.reason && type === "unsubscribed" ? message.channels : []);
      assert.deepEqual(
        errors.map(({ channel }) => channel),
        refused,
      );
    }
    const news = told.slice(toldBefore);
    assert.deepEqual(
      news.map(({ name }) => name),
      TOLD.includes(type) ? [type] : [],
    );
    if (news[0]) assertHas(news[0].payload, message);
    assert.deepEqual(server.sent.slice(sentBefore), type === "ping" ? [{ type: "pong" }] : []);
  });
}

for (const { name, connected, receives, delivered, losses, positions } of cases("client_streams")) {
  test(`a stream: ${name}`, async (t) => {
    const { client, open, told } = harness(t);
    const seen: unknown[] = [];
    const names = receives.flatMap(({ channel, of, channels = [], positions = {} }: Wire) => [
      channel,
      of,
      ...channels,
      ...Object.keys(positions),
    ]);
    const channels = [...new Set([...names, ...Object.keys(positions)])].filter((name) => name !== undefined);
    client.subscribeMultiple(channels, ({ channel, seq }) => seen.push([channel, seq ?? null]));
    const server = await open(connected);
    server.says(...receives);
    for (const { id } of server.of("resume")) server.says({ type: "resumed", id, channels: [], replayed: 0 });
    assert.deepEqual(seen, delivered);
    assert.deepEqual(
      told.filter(({ name }) => name === "gap").map(({ payload }) => payload),
      losses,
    );
    assert.deepEqual(client.getConnectionInfo().positions, positions);
  });
}

for (const { code, retryable } of cases("error_codes")) {
  test(`error code ${code}: ${retryable ? "may be tried again" : "final"}`, () => {
    assert.equal(isRetryable(code), retryable);
  });
}

// --- what the client says: each valid message of a kind that it has is made by it, word for word ---

type Say = (h: Harness, message: Wire, greeting?: Wire) => Promise<FakeSocket>;

const after = (act: (h: Harness, message: Wire) => unknown): Say => {
  return async (h, message, greeting) => {
    const socket = await h.open(greeting);
    act(h, message);
    await settle();
    return socket;
  };
};

const SAY: Record<string, Say> = {
  ping: after(({ client }) => client.ping()),
  pong: after(({ socket }) => socket().says({ type: "ping", timestamp: "" })),
  get_subscriptions: after(({ client }) => client.fetchSubscriptions()),
  authenticate: after(({ client }, { token }) => client.authenticate(token)),
  subscribe: after(({ client }, { channels, filter, policy, key, recover, last, since }) => {
    client.subscribeMultiple(channels, () => {}, { filter, policy, key, recover, last, since });
  }),
  unsubscribe: async (h, { channels }) => {
    h.client.subscribeMultiple(channels, () => {});
    const socket = await h.open();
    for (const name of channels) h.client.unsubscribe(name);
    await settle();
    return socket;
  },
  publish: after(({ client }, { channel, event_type, events, data, key }) => {
    if (events) client.publishBatch(channel, events, key);
    else client.publish(channel, event_type, data, key);
  }),
  history: after(({ client }, { channel, after, last, since, limit }) => {
    client.history(channel, { after, last, since, limit });
  }),
  resume: async (h, { positions }) => {
    h.client.subscribeMultiple(Object.keys(positions), () => {}, { recover: positions });
    await h.open();
    return h.comeBack({ reconnected: true, channels: Object.keys(positions), positions: {} });
  },
};

/** The fields of each kind; others in a fixture are there to be ignored. */
const FIELDS: Record<string, string[]> = {
  authenticate: ["token"],
  subscribe: ["channels", "filter", "policy", "key", "recover", "last", "since"],
  unsubscribe: ["channels"],
  publish: ["channel", "event_type", "data", "events", "key"],
  history: ["channel", "after", "last", "since", "limit"],
  resume: ["positions"],
};

function expected(message: Wire): Wire {
  const fields = FIELDS[message.type] ?? [];
  const said: Wire = Object.fromEntries(Object.entries(message).filter(([field]) => fields.includes(field)));
  // Each name once, and those that come without being asked for are not asked for.
  said.channels &&= [...new Set(said.channels)].filter((name) => name !== "personal" && name !== "global");
  if (message.type === "publish" && !said.events) said.data ??= {};
  return said;
}

const valid = cases("client_messages").filter((one) => one.valid !== false && !one.error && !one.close);

for (const one of valid) {
  const message = JSON.parse(textOf(one));
  const say = SAY[message.type];
  if (!say) {
    // The one message that this client has no use for.
    test(`not said: ${one.name}`, () => assert.equal(message.type, "get_reconnection_token"));
    continue;
  }
  test(`the client says: ${one.name}`, async (t: TestContext) => {
    const h = harness(t);
    h.client.on("error", () => {});
    const socket = await say(h, message, one.config);
    const said = socket.of(message.type);
    assert.equal(said.length, 1);
    assertHas(said[0], expected(message));
    if (message.type !== "pong") assert.equal(typeof said[0]?.id, "string");
  });
}

test("every kind of message that the client has is among them", () => {
  const kinds = new Set(valid.map((one) => JSON.parse(textOf(one)).type));
  for (const kind of Object.keys(SAY)) assert(kinds.has(kind), kind);
  assert.equal(GREETING.protocol, 1);
});
