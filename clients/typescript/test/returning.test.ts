import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { backoff } from "../src/backoff.js";
import { reconnectAfter } from "../src/codes.js";
import { ConnectionError } from "../src/index.js";
import { event, GREETING, harness, settle, subscribed } from "./harness.js";

const CODES = JSON.parse(readFileSync(new URL("../../fixtures/close_codes.json", import.meta.url), "utf8"));

/** What is told of each attempt to come back. */
function delays(told: { name: string; payload: Record<string, unknown> }[]): unknown[] {
  return told.filter(({ name }) => name === "reconnecting").map(({ payload }) => payload.delay);
}

test("the backoff is full jitter, from half a second to twenty", () => {
  const at = (failures: number, random: number) => backoff(failures, () => random);
  assert.equal(at(0, 0), 0);
  assert.equal(at(9, 0), 0);
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5, 6, 60, 5000].map((failures) => at(failures, 1)),
    [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000],
  );
  assert.equal(at(1, 0.25), 250);
});

test("a lost connection comes back: disconnected, reconnecting, connected", async (t) => {
  const { client, clock, open, socket, sockets, told } = harness(t);
  await open();
  clock.tick(40_000);
  socket().ends(1006, "reset");
  assert.equal(client.getConnectionInfo().state, "waiting");
  assert.deepEqual(told.slice(1), [
    { name: "disconnected", payload: { code: 1006, reason: "reset", reconnect: true } },
    { name: "reconnecting", payload: { attempt: 1, delay: 250, error: new ConnectionError(1006, "reset") } },
  ]);
  clock.tick(249);
  assert.equal(sockets.length, 1);
  clock.tick(1);
  assert.equal(sockets.length, 2);
  assert.equal(client.getConnectionInfo().state, "connecting");
  socket().says(GREETING);
  assert.equal(client.isConnected(), true);
  assert.equal(client.getConnectionInfo().reconnects, 1);
});

test("it waits longer after each failure, and for ever", async (t) => {
  const { clock, open, socket, told } = harness(t);
  await open();
  for (let n = 0; n < 8; n++) {
    socket().ends();
    clock.next();
  }
  assert.deepEqual(delays(told), [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.equal(told.filter(({ name }) => name === "disconnected").length, 1);
});

test("a connection under 60 s is a failure, one of 60 s is none", async (t) => {
  const { clock, open, comeBack, socket, told } = harness(t);
  const hold = (ms: number) => {
    // With a heartbeat now and then, so that it is not taken for dead.
    for (; ms > 30_000; ms -= 30_000) {
      clock.tick(30_000);
      socket().says({ type: "ping", timestamp: "" });
    }
    clock.tick(ms);
  };
  await open();
  await comeBack();
  hold(59_999);
  await comeBack();
  hold(60_000);
  await comeBack();
  await comeBack();
  assert.deepEqual(delays(told), [250, 500, 250, 500]);
});

test("an attempt that hangs fails after connectTimeout, and the next one follows", async (t) => {
  const { clock, open, socket, sockets, told } = harness(t);
  await open();
  socket().ends();
  clock.next();
  const hanging = socket();
  clock.tick(10_000);
  assert.equal(hanging.terminated, true);
  assert.deepEqual(delays(told), [250, 500]);
  clock.next();
  assert.equal(sockets.length, 3);
});

for (const { code, reconnect } of CODES.examples) {
  test(`close code ${code}: ${reconnect}`, async (t: TestContext) => {
    assert.equal(reconnectAfter(code), reconnect);
    for (const token of ["a.b.c", () => "fresh.b.c"]) {
      await t.test(typeof token, async (t) => {
        const { client, clock, open, socket, told } = harness(t, { token });
        await open();
        socket().ends(code, "so");
        const back = reconnect === "yes" || (reconnect === "fresh_token" && typeof token === "function");
        assert.equal(client.getConnectionInfo().state, back ? "waiting" : "closed");
        assert.deepEqual(told[1], { name: "disconnected", payload: { code, reason: "so", reconnect: back } });
        assert.equal(clock.countTimers(), back ? 1 : 0);
      });
    }
  });
}

test("every code in the fixtures is judged as they say", () => {
  for (const { code, reconnect } of CODES.codes) assert.equal(reconnectAfter(code), reconnect, code);
});

test("the code of a failed attempt counts as well", async (t) => {
  const { client, clock, open, socket, told } = harness(t);
  await open();
  socket().ends();
  clock.next();
  socket().ends(4501, "revoked");
  assert.equal(client.getConnectionInfo().state, "closed");
  assert.equal(clock.countTimers(), 0);
  assert.deepEqual(told.at(-1)?.payload, { code: 4501, reason: "revoked", reconnect: false });
});

test("autoReconnect: false ends with the connection", async (t) => {
  const { client, clock, open, socket } = harness(t, { autoReconnect: false });
  await open();
  socket().ends();
  assert.equal(client.getConnectionInfo().state, "closed");
  assert.equal(clock.countTimers(), 0);
});

test("maxReconnectAttempts in a row, and it gives up", async (t) => {
  const { client, clock, open, comeBack, socket, sockets, told } = harness(t, { maxReconnectAttempts: 2 });
  await open();
  await comeBack();
  for (const attempt of [1, 2]) {
    socket().ends();
    assert.deepEqual(told.at(-1)?.payload.attempt, attempt);
    clock.next();
  }
  socket().ends();
  assert.equal(client.getConnectionInfo().state, "closed");
  assert.equal(sockets.length, 4);
});

test("goodbye's slot is used in place of the first delay, once", async (t) => {
  const { clock, open, socket, told } = harness(t);
  await open();
  const goodbye = { type: "goodbye", reason: "shutdown", reconnect_after_ms: 1250 };
  socket().says(goodbye);
  assert.deepEqual(told.at(-1), { name: "goodbye", payload: goodbye });
  socket().ends(1012);
  clock.next();
  socket().ends();
  assert.deepEqual(delays(told), [1250, 500]);
});

test("a goodbye without a slot is no reason to come back at once", async (t) => {
  const { open, socket, told } = harness(t);
  await open();
  for (const reconnect_after_ms of [-1, "soon"]) socket().says({ type: "goodbye", reason: "x", reconnect_after_ms });
  socket().ends(1012);
  assert.deepEqual(delays(told), [250]);
});

test("connect while waiting tries at once, and its promise has the outcome", async (t) => {
  const { client, open, socket, sockets } = harness(t);
  await open();
  socket().ends();
  const refused = assert.rejects(client.connect(), { code: 1013 });
  assert.equal(sockets.length, 2);
  socket().ends(1013);
  await refused;
  assert.equal(client.getConnectionInfo().state, "waiting");
  const connected = client.connect();
  socket().says(GREETING);
  await connected;
});

test("connect during an attempt in the background has that attempt's outcome", async (t) => {
  const { client, clock, open, socket, sockets } = harness(t);
  await open();
  socket().ends();
  clock.next();
  assert.equal(client.getConnectionInfo().state, "connecting");
  const refused = assert.rejects(client.connect(), { code: 1013 });
  assert.equal(sockets.length, 2);
  socket().ends(1013);
  await refused;
});

test("a token function that fails while coming back is told, and asked again", async (t) => {
  const tokens = [async () => "one", () => Promise.reject(new Error("no network")), async () => "two"];
  const { open, clock, socket, sockets, errors } = harness(t, { token: () => tokens.shift()?.() });
  await open();
  socket().ends();
  clock.next();
  await settle();
  assert.match(errors[0]?.message ?? "", /no network/);
  clock.next();
  await settle();
  assert.equal(sockets.length, 2);
  assert.equal(socket().protocols[1], "bearer.two");
});

test("token_expiring: the function is asked, and the token sent", async (t) => {
  const tokens = ["one", "two"];
  const { open, told } = harness(t, { token: () => tokens.shift() });
  const socket = await open();
  socket.says({ type: "token_expiring", expires_at: "2024-12-29T12:01:00.000Z" });
  await settle();
  assert.equal(told.at(-1)?.name, "token_expiring");
  assert.equal(socket.last.type, "authenticate");
  assert.equal(socket.last.token, "two");
});

test("token_expiring: what goes wrong is told", async (t) => {
  const tokens = [async () => "one", () => Promise.reject(new Error("no network")), async () => "three"];
  const { open, errors } = harness(t, { token: () => tokens.shift()?.() });
  const socket = await open();
  socket.says({ type: "token_expiring", expires_at: "" });
  await settle();
  socket.says({ type: "token_expiring", expires_at: "" });
  await settle();
  socket.says({ type: "error", id: socket.last.id, code: "invalid_token", message: "expired" });
  await settle();
  assert.deepEqual(
    errors.map(({ code }) => code),
    ["token_failed", "invalid_token"],
  );
});

test("token_expiring: a token that comes after the connection is of no use", async (t) => {
  let give: (token: string) => void = () => {};
  const tokens = [() => "one", () => new Promise<string>((resolve) => (give = resolve))];
  const { open, socket, errors } = harness(t, { token: () => tokens.shift()?.() });
  await open();
  socket().says({ type: "token_expiring", expires_at: "" });
  socket().ends();
  give("two");
  await settle();
  assert.deepEqual(errors, []);
});

test("token_expiring: a connection lost amid the renewal is no failure of it", async (t) => {
  const tokens = ["one", "two"];
  const { open, socket, errors } = harness(t, { token: () => tokens.shift() });
  await open();
  socket().says({ type: "token_expiring", expires_at: "" });
  await settle();
  assert.equal(socket().last.type, "authenticate");
  socket().ends();
  await settle();
  assert.deepEqual(errors, []);
});

test("token_expiring: without a function it is only told", async (t) => {
  const { open, told, errors } = harness(t, { token: "one" });
  const socket = await open();
  socket.says({ type: "token_expiring", expires_at: "" });
  await settle();
  assert.equal(told.at(-1)?.name, "token_expiring");
  assert.deepEqual(socket.sent, []);
  assert.deepEqual(errors, []);
});

test("token_expiring: the same token again is not sent, for the server would warn of it again", async (t) => {
  const tokens = ["one", "one", "two", "two"];
  const { open, errors } = harness(t, { token: () => tokens.shift() });
  const socket = await open();
  for (let n = 0; n < 3; n++) {
    socket.says({ type: "token_expiring", expires_at: "" });
    await settle();
    const { id, type } = socket.last;
    if (type === "authenticate") {
      socket.says({ type: "authenticated", id, user_id: "u", role: "viewer", expires_at: null, timestamp: "" });
    }
    await settle();
  }
  assert.deepEqual(
    socket.sent.map(({ type, token }) => [type, token]),
    [["authenticate", "two"]],
  );
  assert.deepEqual([errors, tokens], [[], []]);
});

for (const code of [1008, 4002]) {
  test(`after ${code} the same token is not tried again: it is the end`, async (t) => {
    let asked = 0;
    const { client, clock, open, socket, sockets, told, errors } = harness(t, { token: () => `t${++asked >> 1}` });
    await open(); // t0
    const events = client.events("signals");
    socket().ends(1006);
    clock.next();
    await settle(); // t1, and the session, of which this may be said
    socket().ends(1008, "no");
    clock.next();
    await settle(); // t1, without the session
    if (code === 4002) socket().says(GREETING);
    socket().ends(code, "no");
    clock.next();
    await settle(); // t2
    socket().ends(code, "not this one");
    clock.next();
    await settle(); // t2 again
    assert.deepEqual(
      sockets.map(({ protocols }) => protocols[1]),
      ["bearer.t0", "bearer.t1", "bearer.t1", "bearer.t2"],
    );
    assert.equal(client.getConnectionInfo().state, "closed");
    assert.equal(clock.countTimers(), 0);
    await assert.rejects(events.next(), { code, reason: /^not this one; .* same token again$/ });
    assert.deepEqual([errors.at(-1)?.code, told.at(-1)?.payload.reconnect], [code, false]);
  });
}

test("a session's token that ran out is not sent again, and a fresh one takes the session up", async (t) => {
  const tokens = ["one", "two", "two"];
  const { client, open, comeBack, socket, clock } = harness(t, { token: () => tokens.shift() });
  await open();
  const again = await comeBack({ reconnected: true }, 4002);
  assert.deepEqual([again.protocols[1], again.query.get("resume")], ["bearer.two", "1"]);
  const refused = assert.rejects(new Promise((_, reject) => client.on("error", reject)), { code: 4002 });
  socket().ends(4002);
  clock.next();
  await refused;
});

// --- taking up the session ---

test("it resumes with its positions, first of all", async (t) => {
  const { client, open, comeBack } = harness(t);
  client.subscribe("signals", () => {});
  const first = await open();
  assert.equal(first.query.has("resume"), false);
  first.says(subscribed(first, { signals: 41 }), event(42));
  client.publish("signals", "x").catch(() => {});
  const again = await comeBack({
    reconnected: true,
    channels: ["signals"],
    positions: { signals: { epoch: "e1", seq: 43 } },
  });
  assert.equal(again.query.get("reconnection_token"), "r.1");
  assert.equal(again.query.get("resume"), "1");
  assert.deepEqual(
    again.sent.map(({ type }) => type),
    ["resume", "publish"],
  );
  assert.deepEqual(again.sent[0]?.positions, { signals: { epoch: "e1", seq: 42 } });
});

test("resume is first also where subscriptions have changed meanwhile", async (t) => {
  const { client, open, socket, clock } = harness(t);
  client.subscribeMultiple(["signals", "logs"], () => {});
  await open();
  socket().says(subscribed(socket(), { signals: 1, logs: 1 }));
  socket().ends();
  client.subscribe("metrics", () => {});
  client.unsubscribe("logs");
  client.subscribe("signals", undefined, { policy: "latest" });
  clock.next();
  socket().says({ ...GREETING, reconnected: true, channels: ["logs", "signals"], positions: {} });
  assert.deepEqual(
    socket().sent.map(({ type, channels, policy }) => [type, channels, policy]),
    [
      ["resume", undefined, undefined],
      ["unsubscribe", ["logs"], undefined],
      ["subscribe", ["signals"], "latest"],
      ["subscribe", ["metrics"], undefined],
    ],
  );
});

test("without its session it subscribes anew from its positions, in as few messages as may be", async (t) => {
  const { client, open, comeBack } = harness(t);
  client.subscribeMultiple(["signals", "metrics"], () => {});
  client.subscribe("logs", () => {}, { filter: { "data.level": "error" }, last: 5 });
  const first = await open();
  first.says(subscribed(first, { signals: 41, metrics: 7, logs: 3 }), event(42));
  client.subscribe("status", () => {});
  await settle();
  const again = await comeBack();
  assert.deepEqual(
    again.sent.map(({ id, ...message }) => message),
    [
      {
        type: "subscribe",
        channels: ["signals", "metrics", "status"],
        recover: { signals: { epoch: "e1", seq: 42 }, metrics: { epoch: "e1", seq: 7 } },
      },
      {
        type: "subscribe",
        channels: ["logs"],
        filter: { "data.level": "error" },
        recover: { logs: { epoch: "e1", seq: 3 } },
      },
    ],
  );
});

test("options that were asked for and not granted are asked for again", async (t) => {
  const { client, open, comeBack } = harness(t);
  client.subscribe("signals", () => {});
  const socket = await open();
  socket.says(subscribed(socket, { signals: 1 }));
  client.subscribe("signals", undefined, { policy: "latest" });
  await settle();
  assert.equal(socket.last.policy, "latest");
  const again = await comeBack({ reconnected: true, channels: ["signals"], positions: {} });
  assert.deepEqual(
    again.of("subscribe").map(({ policy }) => policy),
    ["latest"],
  );
});

test("a client without positions goes on from the session's marks", async (t) => {
  const { client, open } = harness(t);
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq));
  const positions = { signals: { epoch: "e1", seq: 41 } };
  const socket = await open({ reconnected: true, channels: ["signals"], positions });
  assert.deepEqual(client.getConnectionInfo().positions, positions);
  socket.says(event(41), event(42), { type: "resumed", id: socket.last.id, channels: ["signals"], replayed: 2 });
  assert.deepEqual(seen, [42]);
});

test("what was asked and not granted is asked again in a resumed session", async (t) => {
  const { client, open, comeBack } = harness(t);
  client.subscribe("signals", () => {}, { last: 50 });
  await open();
  const again = await comeBack({ reconnected: true, channels: [], positions: {} });
  assert.deepEqual(
    again.of("subscribe").map(({ channels, last }) => [channels, last]),
    [[["signals"], 50]],
  );
});

test("the newest reconnection token is used", async (t) => {
  const { open, comeBack } = harness(t);
  await open();
  await comeBack({ reconnection_token: "r.2" });
  const second = await comeBack({ reconnection_token: "r.2" });
  assert.equal(second.query.get("reconnection_token"), "r.2");
  second.says({ type: "reconnection_token", token: "r.3", expires_in: 300, timestamp: "" });
  assert.equal((await comeBack()).query.get("reconnection_token"), "r.3");
});

test("after 1008 it comes back without the session, which may be another user's", async (t) => {
  const tokens = ["a.b.c", "d.e.f"];
  const { open, comeBack } = harness(t, { token: () => tokens.shift() });
  await open();
  assert.equal((await comeBack({}, 1008)).query.has("reconnection_token"), false);
});

test("small messages: neither resume nor subscribe is larger than this server takes", async (t) => {
  const { client, open, comeBack, errors } = harness(t);
  const names = Array.from({ length: 36 }, (_, n) => `channel.\u00e9.number.${n}`);
  client.subscribeMultiple(names, () => {}, { policy: "latest" });
  const max_message_bytes = 1024;
  const first = await open({ max_message_bytes });
  const fits = (message: object) => Buffer.byteLength(JSON.stringify(message)) <= max_message_bytes;
  const channels = (socket: typeof first) => socket.of("subscribe").flatMap((message) => message.channels);
  assert.deepEqual(channels(first), names);
  first.says(subscribed(first, Object.fromEntries(names.map((name) => [name, 1]))));
  const again = await comeBack({ max_message_bytes });
  assert.equal(again.query.has("resume"), false);
  assert.deepEqual(channels(again), names);
  for (const message of [...first.sent, ...again.sent]) assert(fits(message), `${message.channels}`);
  client.unsubscribe(names[0] as string);
  await settle();
  assert.deepEqual(again.last.channels, [names[0]]);
  assert.deepEqual(errors, []);
});

test("a server that takes less than the one before: a new session, once", async (t) => {
  const { client, open, comeBack, clock, socket, sockets, errors } = harness(t);
  const names = Array.from({ length: 36 }, (_, n) => `channel.number.${n}`);
  client.subscribeMultiple(names, () => {});
  const first = await open();
  first.says(subscribed(first, Object.fromEntries(names.map((name) => [name, 1]))));
  const small = { max_message_bytes: 1024 };
  const second = await comeBack({ ...small, reconnected: true, channels: names });
  assert.deepEqual([second.query.get("resume"), second.sent], ["1", []]);
  clock.next();
  socket().says({ ...GREETING, ...small });
  assert.equal(socket().query.has("resume"), false);
  assert.deepEqual(
    socket()
      .of("subscribe")
      .flatMap(({ channels }) => channels),
    names,
  );
  assert.deepEqual([client.isConnected(), sockets.length, errors.length], [true, 3, 1]);
  assert.match(errors[0]?.message ?? "", /positions are more than this server takes/);
});

test("a session with more positions than a message holds is not resumed", async (t) => {
  const { client, open, comeBack } = harness(t);
  const names = Array.from({ length: 1000 }, (_, n) => `c.${"x".repeat(50)}.${n}`);
  client.subscribeMultiple(names, () => {});
  const first = await open();
  assert.deepEqual(
    first.of("subscribe").flatMap(({ channels }) => channels),
    names,
  );
  first.says(subscribed(first, Object.fromEntries(names.map((name) => [name, 1]))));
  const again = await comeBack();
  assert.equal(again.query.has("resume"), false);
  const asked = again.of("subscribe");
  assert.deepEqual(
    asked.flatMap(({ channels }) => channels),
    names,
  );
  for (const message of asked) assert(JSON.stringify(message).length < 65_536);
});

test("where resume is refused it connects anew, for something may be missing", async (t) => {
  const { client, open, comeBack, errors } = harness(t);
  await open();
  const again = await comeBack({ reconnected: true, channels: [], positions: {} });
  again.says({ type: "error", id: again.last.id, code: "invalid_message", message: "too late" });
  assert.equal(again.closedWith, 3002);
  assert.equal(client.getConnectionInfo().state, "waiting");
  assert.match(errors[0]?.message ?? "", /resume was refused: too late/);
});

test("what came before a resume that is refused does not count: something before it may be missing", async (t) => {
  const { client, open, comeBack } = harness(t);
  const seen: number[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq as number));
  const first = await open();
  const positions = { signals: { epoch: "e1", seq: 1 } };
  first.says({ type: "subscribed", id: first.last.id, channels: ["signals"], positions });
  const again = await comeBack({ reconnected: true, channels: ["signals"], positions });
  const event = { channel: "signals", timestamp: "", event_type: "a", data: {} };
  again.says({ ...event, seq: 5 });
  again.says({ type: "error", id: again.last.id, code: "invalid_message", message: "too late" });
  assert.deepEqual([seen, client.getConnectionInfo().positions], [[], positions]);
  const third = await comeBack({ reconnected: true, channels: ["signals"], positions });
  for (const seq of [2, 3, 4, 5]) third.says({ ...event, seq });
  assert.deepEqual(seen, []);
  third.says({ type: "resumed", id: third.last.id, channels: ["signals"], replayed: 4, timestamp: "" });
  assert.deepEqual(seen, [2, 3, 4, 5]);
  third.says({ ...event, seq: 6 });
  assert.equal(seen.at(-1), 6);
});

test("a resume that is not answered in time: the connection is given up, and what came since does not count", async (t) => {
  const { client, clock, open, comeBack, errors } = harness(t, { requestTimeout: 700 });
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq));
  const first = await open();
  first.says(subscribed(first, { signals: 1 }));
  const session = { reconnected: true, channels: ["signals"], positions: {} };
  const again = await comeBack(session);
  clock.tick(699);
  again.says(event(2));
  assert.equal(client.isConnected(), true);
  clock.tick(1);
  assert.deepEqual([client.getConnectionInfo().state, again.closedWith, seen], ["waiting", 3002, []]);
  assert.match(errors[0]?.message ?? "", /no reply to resume within 700 ms/);
  clock.next();
  const third = await comeBack(session);
  third.says({ type: "resumed", id: third.last.id, channels: ["signals"], replayed: 0, timestamp: "" });
  clock.tick(44_999);
  assert.equal(client.isConnected(), true);
  clock.tick(46_000); // and then silence counts again
  assert.equal(client.isConnected(), false);
});

// --- a dead server, a page that wakes ---

test("45 s of silence, and a last call, are death", async (t) => {
  const { client, clock, open, told } = harness(t);
  const socket = await open();
  clock.tick(40_000);
  socket.says({ type: "ping", timestamp: "" });
  clock.tick(45_999);
  assert.equal(client.isConnected(), true);
  clock.tick(1);
  assert.equal(client.getConnectionInfo().state, "waiting");
  assert.equal(socket.terminated, true);
  assert.notEqual(socket.closedWith, 1000, "the session would end");
  assert.deepEqual(told[1]?.payload, { code: 4000, reason: "the server is silent", reconnect: true });
});

test("any message is life, and the server's heartbeat counts", async (t) => {
  const { client, clock, open } = harness(t);
  const socket = await open({ heartbeat_s: 5 });
  for (let n = 0; n < 10; n++) {
    clock.tick(19_000);
    socket.says(event(n));
  }
  assert.equal(client.isConnected(), true);
  clock.tick(21_000);
  assert.equal(client.isConnected(), false);
});

test("what was waiting to be read while the thread was busy is life", async (t) => {
  const { client, clock, open } = harness(t);
  const socket = await open();
  clock.tick(45_000);
  socket.says(event(1));
  clock.tick(1000);
  assert.equal(client.isConnected(), true);
});

/** A browser's page, as far as a client listens to it. */
function page(t: TestContext) {
  let listeners = 0;
  class Target extends EventTarget {
    override addEventListener = (...args: Parameters<EventTarget["addEventListener"]>) => {
      listeners++;
      super.addEventListener(...args);
    };
    override removeEventListener = (...args: Parameters<EventTarget["removeEventListener"]>) => {
      listeners--;
      super.removeEventListener(...args);
    };
  }
  const document = Object.assign(new Target(), { visibilityState: "hidden" });
  const window = new Target();
  const { addEventListener, removeEventListener } = window;
  for (const [name, value] of Object.entries({ document, addEventListener, removeEventListener })) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => {
      if (before) Object.defineProperty(globalThis, name, before);
      else Reflect.deleteProperty(globalThis, name);
    });
  }
  return {
    listeners: () => listeners,
    online: () => window.dispatchEvent(new Event("online")),
    show: (visibilityState: string) => {
      document.visibilityState = visibilityState;
      document.dispatchEvent(new Event("visibilitychange"));
    },
  };
}

test("back online or seen again, a waiting client tries at once", async (t) => {
  const { online, show } = page(t);
  const { open, socket, sockets } = harness(t);
  await open();
  socket().ends();
  online();
  assert.equal(sockets.length, 2);
  socket().ends();
  show("hidden");
  assert.equal(sockets.length, 2);
  show("visible");
  assert.equal(sockets.length, 3);
});

test("back online or seen again, an attempt that hangs is begun anew at once", async (t) => {
  const { online, show } = page(t);
  const { client, clock, open, socket, sockets } = harness(t);
  await open();
  socket().ends();
  clock.next();
  const hanging = socket();
  clock.tick(9_999);
  online();
  assert.deepEqual([hanging.terminated, sockets.length], [true, 3]);
  clock.tick(9_999);
  show("visible");
  assert.equal(sockets.length, 4);
  const connecting = client.connect();
  online();
  assert.equal(sockets.length, 4, "what somebody waits for has its own time");
  clock.tick(9_999);
  socket().says(GREETING);
  await connecting;
  assert.equal(client.getConnectionInfo().reconnects, 1);
});

test("back online, the token is asked for anew where that hangs", async (t) => {
  const { online } = page(t);
  const given: ((token: string) => void)[] = [];
  const token = () => new Promise<string>((resolve) => given.push(resolve));
  const { client, clock, socket, sockets } = harness(t, { token });
  const connecting = client.connect();
  given.shift()?.("one");
  await settle();
  socket().says(GREETING);
  await connecting;
  socket().ends();
  clock.next();
  online();
  assert.equal(given.length, 2);
  for (const name of ["late", "two"]) given.shift()?.(name);
  await settle();
  assert.deepEqual(
    sockets.map(({ protocols }) => protocols[1]),
    ["bearer.one", "bearer.two"],
  );
});

test("back online while resuming: that is a try already", async (t) => {
  const { online } = page(t);
  const { client, clock, open, comeBack } = harness(t);
  await open();
  const again = await comeBack({ reconnected: true, channels: [], positions: {} });
  clock.tick(9_000);
  online();
  clock.tick(1_000);
  assert.deepEqual([client.isConnected(), again.of("ping")], [false, []]);
});

test("back online, an open connection is tried by a ping", async (t) => {
  const { online } = page(t);
  const { client, clock, open, socket } = harness(t);
  const first = await open();
  online();
  assert.deepEqual(first.sent, [{ type: "ping" }]);
  clock.tick(9_999);
  first.says({ type: "pong", timestamp: "" });
  clock.tick(1);
  assert.equal(client.isConnected(), true);
  online();
  clock.tick(10_000);
  assert.equal(client.getConnectionInfo().state, "waiting");
  assert.equal(socket().closedWith, 4000);
});

test("only a client that is at work listens to the page", async (t) => {
  const { listeners, online } = page(t);
  const { client, open, sockets, socket } = harness(t);
  const connecting = client.connect();
  socket().ends();
  await assert.rejects(connecting);
  assert.equal(listeners(), 0);
  await open();
  assert.equal(listeners(), 2);
  client.disconnect();
  socket().ends(1000);
  assert.equal(listeners(), 0);
  online();
  assert.equal(sockets.length, 2);
});

// --- a server that breaks the contract ---

for (const [what, text] of [
  ["no JSON", "{"],
  ["no object", "null"],
  ["an array", "[]"],
  ["a number", "5"],
  ["neither event nor message", '{"seq":1}'],
  ["a channel that is no string", '{"channel":5,"event_type":"x","data":{},"seq":1}'],
  ["a seq that is no number", '{"channel":"signals","event_type":"x","data":{},"seq":"42"}'],
  ["positions that are none", '{"type":"subscribed","channels":["signals"]}'],
  ["a binary message", new ArrayBuffer(2)],
] as const) {
  test(`the server breaks the contract: ${what}`, async (t) => {
    const { client, open, errors } = harness(t);
    client.subscribe("signals", () => {});
    const broken = await open();
    broken.saysText(text);
    assert.equal(errors.length, 1);
    assert.equal(errors[0]?.name, "ConnectionError");
    assert.equal(broken.closedWith, 3002);
    assert.equal(client.getConnectionInfo().state, "waiting");
  });
}
