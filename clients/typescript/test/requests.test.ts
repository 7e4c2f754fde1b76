import assert from "node:assert/strict";
import { test } from "node:test";
import { ClosedError, ConnectionError, RequestRefusedError, RequestTimeoutError } from "../src/index.js";
import { harness, refusal, settle } from "./harness.js";

test("ping resolves with the round trip, and `pong` is told", async (t) => {
  const { client, clock, open, told } = harness(t);
  const socket = await open();
  const trip = client.ping();
  clock.tick(25);
  const pong = { type: "pong", id: socket.last.id, timestamp: "" };
  socket.says(pong);
  assert.equal(await trip, 25);
  assert.deepEqual(told.at(-1), { name: "pong", payload: pong });
});

test("history, authenticate and fetchSubscriptions resolve with their replies", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  const history = client.history("signals", { after: { epoch: "e1", seq: 4 }, limit: 10 });
  const { id, ...asked } = socket.last;
  assert.deepEqual(asked, { type: "history", channel: "signals", after: { epoch: "e1", seq: 4 }, limit: 10 });
  const page = { type: "history", id, channel: "signals", epoch: "e1", complete: true, more: false, events: [] };
  const subscriptions = client.fetchSubscriptions();
  socket.says(page, { type: "subscriptions", id: socket.last.id, channels: ["a", "b"], timestamp: "" });
  assert.deepEqual(await history, page);
  assert.deepEqual(await subscriptions, ["a", "b"]);
  const signedIn = client.authenticate("new.token.x");
  assert.equal(socket.last.token, "new.token.x");
  socket.says({
    type: "authenticated",
    id: socket.last.id,
    user_id: "u",
    role: "viewer",
    expires_at: null,
    timestamp: "",
  });
  assert.equal((await signedIn).user_id, "u");
  assert.deepEqual([client.getConnectionInfo().userId, client.getConnectionInfo().role], ["u", "viewer"]);
});

test("the token of authenticate is used from then on, a refused one is not", async (t) => {
  const { client, open, comeBack } = harness(t, { token: "old" });
  const socket = await open();
  const refused = client.authenticate("bad");
  socket.says(refusal(socket.last.id, "invalid_token"));
  await assert.rejects(refused, RequestRefusedError);
  const again = await comeBack();
  assert.equal(again.protocols[1], "bearer.old");
  const taken = client.authenticate("new");
  again.says({
    type: "authenticated",
    id: again.last.id,
    user_id: "u",
    role: "viewer",
    expires_at: null,
    timestamp: "",
  });
  await taken;
  assert.equal((await comeBack()).protocols[1], "bearer.new");
});

test("no reply in time is RequestTimeoutError, and a late one is passed over", async (t) => {
  const { client, clock, open, errors } = harness(t, { requestTimeout: 300 });
  const socket = await open();
  const late = client.history("signals");
  clock.tick(299);
  const soon = client.fetchSubscriptions();
  clock.tick(1);
  await assert.rejects(late, (error: Error) => {
    assert(error instanceof RequestTimeoutError);
    assert.match(error.message, /no reply to history within 300 ms/);
    return true;
  });
  socket.says({ type: "history", id: socket.sent[0]?.id, channel: "signals", events: [] });
  socket.says({ type: "subscriptions", id: socket.last.id, channels: [], timestamp: "" });
  assert.deepEqual(await soon, []);
  assert.equal(client.isConnected(), true);
  assert.deepEqual(errors, []);
  assert.equal(clock.countTimers(), 1);
});

test("a refusal is RequestRefusedError, with all that the server says", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  const asked = client.history("signals");
  socket.says(refusal(socket.last.id, "rate_limited", { retry_after: 0.42 }));
  await assert.rejects(asked, (error: RequestRefusedError) => {
    assert(error instanceof RequestRefusedError);
    assert.deepEqual([error.code, error.retryAfter, error.retryable], ["rate_limited", 0.42, true]);
    return true;
  });
  const again = client.history("signals", { after: { epoch: "e0", seq: 1 } });
  socket.says(refusal(socket.last.id, "history_unavailable", { epoch: "e1" }));
  await assert.rejects(again, { code: "history_unavailable", epoch: "e1", retryable: false });
});

test("without a connection a request fails at once", async (t) => {
  const { client, open, socket } = harness(t);
  await assert.rejects(client.ping(), (error: Error) => {
    assert(error instanceof ConnectionError);
    assert.match(error.message, /idle.*await connect\(\)/);
    return true;
  });
  await open();
  socket().ends();
  await assert.rejects(client.ping(), /waiting/);
});

test("a connection lost, or disconnect, fails what waits for a reply", async (t) => {
  const { client, clock, open, comeBack } = harness(t);
  await open();
  const lost = assert.rejects(client.ping(), new ConnectionError(1006, ""));
  const socket = await comeBack();
  await lost;
  const closed = client.ping();
  const ending = client.disconnect();
  socket.ends(1000);
  await ending;
  await assert.rejects(closed, ClosedError);
  assert.equal(clock.countTimers(), 0);
});

test("a request that nobody awaits tells its failure by `error`", async (t) => {
  const { client, clock, open, errors } = harness(t);
  await open();
  client.ping();
  clock.tick(10_000);
  await settle();
  assert.deepEqual(
    errors.map(({ code }) => code),
    ["timeout"],
  );
});
