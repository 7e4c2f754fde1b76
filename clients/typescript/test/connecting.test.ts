import assert from "node:assert/strict";
import { test } from "node:test";
import Default, { ClosedError, ConnectionError, NeurographWSClient } from "../src/index.js";
import { FakeSocket, GREETING, harness, settle, TOLD } from "./harness.js";

test("connect resolves with what the server said, and `connected` is told", async (t) => {
  const { client, told, socket } = harness(t);
  assert.equal(client.getConnectionInfo().state, "idle");
  const connecting = client.connect();
  assert.equal(client.getConnectionInfo().state, "connecting");
  socket().says(GREETING);
  assert.deepEqual(await connecting, TOLD);
  assert.equal(client.isConnected(), true);
  assert.deepEqual(told, [{ name: "connected", payload: TOLD }]);
});

test("the URL asks for heartbeats, and has no token", async (t) => {
  const { socket, open } = harness(t, { url: "http://router.test:81/ws?x=1&token=in.the.url" });
  await open();
  assert.equal(socket().url, "ws://router.test:81/ws?x=1&heartbeat=message");
  assert.deepEqual(socket().protocols, ["neurograph.v1", "bearer.in.the.url"]);
});

test("the address that is told has no secrets: no user, no password, no query", async (t) => {
  const { client, socket } = harness(t, { url: "ws://u:s.e.cret@router.test:81/ws?api_key=s.e.cret&token=s.e.cret" });
  const refused = assert.rejects(client.connect(), ({ message }: Error) => {
    assert.match(message, /^no connection to ws:\/\/router\.test:81\/ws: 1006/);
    assert.doesNotMatch(message, /cret/);
    return true;
  });
  assert.equal(socket().url, "ws://u:s.e.cret@router.test:81/ws?api_key=s.e.cret&heartbeat=message");
  socket().ends();
  await refused;
  assert.equal(client.getConnectionInfo().url, "ws://router.test:81/ws");
});

test("without a path it is /ws", async (t) => {
  const { client, socket, open } = harness(t, { url: "ws://router.test:8000" });
  await open();
  assert.equal(socket().url, "ws://router.test:8000/ws?heartbeat=message");
  assert.equal(client.getConnectionInfo().url, "ws://router.test:8000/ws");
});

test("where there is no connection, the error says where to, and what to check", async (t) => {
  const { client, open, socket, told } = harness(t);
  const message =
    "no connection to ws://router.test/ws: 1006: is the router running there, is the path right (/ws), are you let in?";
  const refused = assert.rejects(client.connect(), { code: 1006, reason: "", message });
  socket().ends(1006); // all that a page is told
  await refused;
  await open();
  socket().ends(1006);
  client.connect().catch(() => {});
  socket().ends(1006);
  assert.deepEqual(
    told.filter(({ name }) => name === "reconnecting").map(({ payload }) => payload.error.message),
    ["connection closed: 1006", message],
  );
});

test("where the path is wrong, the error says which one is right", async (t) => {
  const { client, socket } = harness(t, { url: "ws://router.test/nope" });
  const refused = assert.rejects(client.connect(), { message: /\/nope: .*response: 404: .*the path right \(\/ws\)/ });
  socket().onerror?.({ message: "Unexpected server response: 404" });
  socket().ends(1006);
  await refused;
});

test("the token is a subprotocol", async (t) => {
  const { open } = harness(t, { token: "a.b.c" });
  assert.deepEqual((await open()).protocols, ["neurograph.v1", "bearer.a.b.c"]);
});

test("a token may come from a function, sync or async, and may be none", async (t) => {
  const tokens = ["first", Promise.resolve("second"), null, undefined, ""];
  const { open, comeBack } = harness(t, { token: () => tokens.shift() });
  const protocols = [(await open()).protocols[1]];
  for (let n = 0; n < 4; n++) protocols.push((await comeBack()).protocols[1]);
  assert.deepEqual(protocols, ["bearer.first", "bearer.second", undefined, undefined, undefined]);
});

test("a token that no header could hold fails, and is not repeated in the error", async (t) => {
  const { client, sockets } = harness(t, { token: "my secret" });
  await assert.rejects(
    client.connect(),
    (error: Error) => error.message.includes("token") && !/secret/.test(error.message),
  );
  assert.equal(sockets.length, 0);
});

test("where the function for the token fails, so does connect", async (t) => {
  const cause = new Error("the identity server is down");
  const { client, clock, errors } = harness(t, { token: () => Promise.reject(cause) });
  await assert.rejects(client.connect(), {
    name: "ConnectionError",
    cause,
    reason: `token() failed: ${cause}`,
    message: `no connection to ws://router.test/ws: 1006 token() failed: ${cause}`,
  });
  assert.equal(client.getConnectionInfo().state, "idle");
  assert.equal(clock.countTimers(), 0);
  assert.deepEqual(errors, []);
});

test("connect is one attempt: refused, it says why, and nothing goes on", async (t) => {
  const { client, clock, socket, told, open } = harness(t);
  const connecting = client.connect();
  socket().onerror?.({ message: "connect ECONNREFUSED" });
  socket().ends(1006);
  await assert.rejects(connecting, { name: "ConnectionError", code: 1006, reason: "connect ECONNREFUSED" });
  assert.equal(client.getConnectionInfo().state, "idle");
  assert.equal(clock.countTimers(), 0);
  assert.deepEqual(told, []);
  await open(); // and may be tried again
});

test("connect fails with the server's code and reason", async (t) => {
  const { client, socket } = harness(t);
  const connecting = client.connect();
  socket().ends(1008, "token expired");
  await assert.rejects(connecting, { code: 1008, reason: "token expired", message: /1008 token expired$/ });
});

test("connect takes connectTimeout at most, `connected` and the token included", async (t) => {
  for (const token of ["a.b.c", () => new Promise<string>(() => {})]) {
    await t.test(typeof token, async (t) => {
      const { client, clock, sockets } = harness(t, { token, connectTimeout: 700 });
      const connecting = client.connect();
      clock.tick(699);
      assert.equal(client.getConnectionInfo().state, "connecting");
      clock.tick(1);
      await assert.rejects(connecting, { name: "ConnectionError", message: /700 ms/ });
      assert.equal(client.getConnectionInfo().state, "idle");
      assert.equal(clock.countTimers(), 0);
      assert.notEqual(sockets[0]?.closedWith ?? 4000, 1000);
    });
  }
});

test("a token that comes too late opens no socket", async (t) => {
  let give: (token: string) => void = () => {};
  const token = () => new Promise<string>((resolve) => (give = resolve));
  const { client, clock, sockets } = harness(t, { token });
  const connecting = client.connect();
  await settle();
  clock.tick(10_000);
  await assert.rejects(connecting);
  give("late");
  await settle();
  assert.equal(sockets.length, 0);
});

test("connect twice is one attempt, and connect when open is nothing", async (t) => {
  const { client, sockets, socket } = harness(t);
  const both = [client.connect(), client.connect()];
  socket().says(GREETING);
  assert.deepEqual(await Promise.all(both), [TOLD, TOLD]);
  assert.deepEqual(await client.connect(), TOLD);
  assert.equal(sockets.length, 1);
});

test("a connect that nobody awaits tells its failure by `error`", async (t) => {
  const { client, errors, socket } = harness(t);
  client.connect();
  socket().ends(1013, "full");
  await settle();
  assert.deepEqual(
    errors.map(({ code }) => code),
    [1013],
  );
});

test("what a class of another kind throws fails connect", async (t) => {
  class Broken {
    constructor() {
      throw new Error("not like this");
    }
  }
  const { client } = harness(t, { webSocket: Broken });
  await assert.rejects(client.connect(), { name: "ConnectionError", cause: new Error("not like this") });
});

test("an address that is none is refused at once", () => {
  for (const url of ["router.test", "ftp://router.test/ws", ""]) {
    assert.throws(() => new NeurographWSClient({ url, webSocket: FakeSocket }), TypeError, url);
  }
});

test("without any WebSocket the error says what to write", (t) => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
  Object.defineProperty(globalThis, "WebSocket", { value: undefined, configurable: true });
  t.after(() => {
    if (before) Object.defineProperty(globalThis, "WebSocket", before);
    else Reflect.deleteProperty(globalThis, "WebSocket");
  });
  const what = 'import WebSocket from "ws"; new NeurographWSClient({ url, webSocket: WebSocket })';
  assert.throws(
    () => new NeurographWSClient({ url: "ws://router.test/ws" }),
    (error: Error) => error.message.includes(what),
  );
});

test("the global WebSocket is taken where there is one", async (t) => {
  const opened: string[] = [];
  class Global extends FakeSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      opened.push(url);
    }
  }
  const before = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
  Object.defineProperty(globalThis, "WebSocket", { value: Global, configurable: true });
  t.after(() => {
    if (before) Object.defineProperty(globalThis, "WebSocket", before);
    else Reflect.deleteProperty(globalThis, "WebSocket");
  });
  const client = new Default({ url: "ws://router.test/ws" });
  client.connect().catch(() => {});
  assert.deepEqual(opened, ["ws://router.test/ws?heartbeat=message"]);
  client.disconnect();
});

test("a second `connected` on a connection is passed over", async (t) => {
  const { client, open, told } = harness(t);
  const socket = await open();
  socket.says({ ...GREETING, client_id: "another" });
  assert.equal(client.getConnectionInfo().clientId, GREETING.client_id);
  assert.equal(told.length, 1);
});

test("what was told of the connection stays as it was told", async (t) => {
  const { open, told } = harness(t);
  const socket = await open();
  socket.says({ type: "authenticated", user_id: "u", role: "viewer", expires_at: null, timestamp: "" });
  assert.deepEqual(told[0]?.payload, TOLD);
});

test("a ping of the server is answered, before `connected` too", async (t) => {
  const { client, socket } = harness(t);
  client.connect();
  socket().says({ type: "ping", timestamp: "" });
  assert.deepEqual(socket().sent, [{ type: "pong" }]);
});

test("disconnect closes with 1000, waits for the answer, and leaves no timer", async (t) => {
  const { client, clock, open, told } = harness(t);
  const socket = await open();
  let done = false;
  const ending = client.disconnect().then(() => (done = true));
  assert.equal(client.getConnectionInfo().state, "closed");
  assert.equal(socket.closedWith, 1000);
  await settle();
  assert.equal(done, false);
  socket.ends(1000);
  await ending;
  assert.equal(socket.terminated, false);
  assert.equal(clock.countTimers(), 0);
  assert.deepEqual(told.at(-1), { name: "disconnected", payload: { code: 1000, reason: "", reconnect: false } });
  assert.equal(told.length, 2);
});

test("disconnect does not wait for a dead server for ever", async (t) => {
  const { client, clock, open } = harness(t);
  const socket = await open();
  const ending = client.disconnect();
  clock.tick(3000);
  await ending;
  assert.equal(socket.terminated, true);
  assert.equal(clock.countTimers(), 0);
});

test("disconnect is final from every state", async (t) => {
  const states = ["idle", "connecting", "open", "waiting", "closed"];
  for (const state of states) {
    await t.test(state, async (t) => {
      const { client, clock, open, socket, sockets } = harness(t);
      if (state === "connecting") {
        const connecting = client.connect();
        queueMicrotask(() => socket().ends());
        const refused = assert.rejects(connecting, ClosedError);
        client.disconnect();
        await refused;
      } else if (state !== "idle") await open();
      if (state === "waiting") socket().ends();
      if (state === "closed") client.disconnect();
      if (state !== "connecting") assert.equal(client.getConnectionInfo().state, state);
      const ending = client.disconnect();
      sockets.at(-1)?.ends(1000);
      await ending;
      assert.equal(client.getConnectionInfo().state, "closed");
      assert.equal(clock.countTimers(), 0);
      await assert.rejects(client.connect(), ClosedError);
      await assert.rejects(client.ping(), ClosedError);
      await assert.rejects(client.publish("signals", "x"), ClosedError);
      assert.throws(() => client.subscribe("signals"), ClosedError);
      assert.throws(() => client.subscribeMultiple(["signals"]), ClosedError);
      assert.throws(() => client.events("signals"), ClosedError);
    });
  }
});

test("nothing is heard after disconnect", async (t) => {
  const { client, open, told } = harness(t);
  const socket = await open();
  const seen: unknown[] = [];
  client.subscribe("signals", (event) => seen.push(event));
  client.disconnect();
  const before = told.length;
  socket.says({ channel: "signals", event_type: "x", data: {}, seq: 1 }, { type: "pong", timestamp: "" });
  assert.deepEqual(seen, []);
  assert.equal(told.length, before);
});

test("errors are of one family", () => {
  const error = new ConnectionError(4500, "an administrator");
  assert.equal(error.name, "ConnectionError");
  assert.equal(error.message, "connection closed: 4500 an administrator");
  assert.equal(error.code, 4500);
});

test("debug says what happens, and no secrets", async (t) => {
  const said = t.mock.method(console, "debug", () => {});
  const { client, open, comeBack } = harness(t, { debug: true, token: "s.e.cret" });
  await open({ reconnection_token: "s.e.cret2" });
  const socket = await comeBack();
  client.authenticate("s.e.cret3").catch(() => {});
  socket.says({ type: "reconnection_token", token: "s.e.cret4" });
  assert(said.mock.callCount() > 4);
  for (const { arguments: words } of said.mock.calls) assert.doesNotMatch(JSON.stringify(words), /cret/);
});

test("`connected` is told to who asks right after connect, and to nobody later", async (t) => {
  const { client, open, socket } = harness(t);
  const heard: unknown[] = [];
  const late = (name: string) => client.on("connected", ({ client_id }) => heard.push([name, client_id]));
  await open();
  late("a");
  late("b");
  client.on("connected", () => late("from within"));
  await settle();
  assert.deepEqual(heard, [
    ["a", GREETING.client_id],
    ["b", GREETING.client_id],
  ]);
  late("c");
  await settle();
  assert.equal(heard.length, 2);
  socket().ends();
  late("d");
  await settle();
  assert.equal(heard.length, 2);
});

test("behind another message, or without a connection, `connected` is no news", async (t) => {
  const { client, open, socket } = harness(t);
  const never = () => assert.fail("called");
  await open();
  socket().says({ type: "ping", timestamp: "" });
  client.on("connected", never);
  await settle();
  client.off("connected", never);
});

test("what is no function is refused at once, and off without a callback takes all", async (t) => {
  const { client, open } = harness(t);
  assert.throws(() => client.on("pong", undefined as never), /callback: not a function but undefined/);
  assert.throws(() => client.subscribe("signals", { last: 10 } as never), /handler: not a function but object/);
  assert.deepEqual(client.getSubscriptions(), []);
  let pongs = 0;
  client.on("pong", () => pongs++);
  const socket = await open();
  socket.says({ type: "pong", timestamp: "" });
  client.off("pong");
  socket.says({ type: "pong", timestamp: "" });
  assert.equal(pongs, 1);
});
