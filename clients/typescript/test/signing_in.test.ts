/** Signing in at the real router, and staying so. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connectTo, DEADLINE, KEY, once, shared, tokenFor } from "./live.js";

const router = shared({ jwt_keys: KEY });

test("a token signs in, and a bad one is refused with the reason", DEADLINE, async (t) => {
  const client = connectTo(t, router.url, { token: tokenFor(60) });
  const { user_id, role } = await client.connect();
  assert.deepEqual([user_id, role], ["alice", "developer"]);
  const bad = connectTo(t, router.url, { token: `${tokenFor(60)}x` });
  await assert.rejects(bad.connect(), { code: 1008 });
  const denied = once(client, "error");
  client.subscribe("connections");
  assert.deepEqual([(await denied).code, (await denied).channel], ["permission_denied", "connections"]);
  await client.authenticate(tokenFor(60, { role: "admin" }));
  assert.deepEqual(await client.fetchSubscriptions(), ["connections"]);
});

test("a token is renewed before it expires", DEADLINE, async (t) => {
  let asked = 0;
  const token = async () => {
    asked++;
    return tokenFor(3, { jti: `${asked}` }); // another one each time, also within a second
  };
  const client = connectTo(t, router.url, { token });
  await client.connect();
  // The second one can only come of a token that was taken in place of the first.
  await once(client, "token_expiring");
  await once(client, "token_expiring");
  assert(asked >= 2);
  assert.equal(client.getConnectionInfo().reconnects, 0);
});

test("a token that runs out, and no function that has another, is the end", DEADLINE, async (t) => {
  const client = connectTo(t, router.url, { token: tokenFor(2) });
  await client.connect();
  const { code, reconnect } = await once(client, "disconnected");
  assert.deepEqual([code, reconnect], [4002, false]);
  assert.equal(client.getConnectionInfo().state, "closed");
});

test("a function that has but the one token: not renewed, not tried again when it ran out", DEADLINE, async (t) => {
  const only = tokenFor(3);
  const client = connectTo(t, router.url, { token: () => only });
  const warnings: unknown[] = [];
  client.on("token_expiring", (warning) => warnings.push(warning));
  const failed = once(client, "error");
  await client.connect();
  assert.deepEqual([(await failed).code, client.getConnectionInfo().state], [4002, "closed"]);
  assert.equal(warnings.length, 1);
});

test("a token that ran out: the connection is lost, and comes back with a fresh one", DEADLINE, async (t) => {
  const publisher = connectTo(t, router.url, { token: tokenFor(600, { role: "admin" }) });
  await publisher.connect();
  let asked = 0;
  const token = () => {
    asked++;
    if (asked === 2) throw new Error("the identity server is down"); // when it is to be renewed
    return tokenFor(asked === 1 ? 2 : 600);
  };
  const client = connectTo(t, router.url, { token });
  const failed = once(client, "error");
  const lost = once(client, "disconnected");
  const events = client.events("signals", { gaps: true });
  const { client_id } = await client.connect();
  await client.fetchSubscriptions();
  const back = once(client, "connected");
  assert.equal((await failed).code, "token_failed");
  assert.deepEqual([(await lost).code, (await lost).reconnect], [4002, true]);
  await publisher.publish("signals", "signal.meanwhile");
  assert.deepEqual([(await back).client_id, (await back).user_id], [client_id, "alice"]);
  const { event_type, seq } = (await events.next()).value;
  assert.deepEqual([event_type, seq, asked], ["signal.meanwhile", 1, 3]);
});
