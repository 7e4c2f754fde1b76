/** A network that passes nothing more, and does not say so. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { connectTo, DEADLINE, Ledger, Network, once, started } from "./live.js";

test("a stalled network is noticed by its silence, and nothing is missing afterwards", DEADLINE, async (t) => {
  // Short heartbeats: 16 s of silence are death. The server gives up on the client after 3 s, and keeps the session.
  const router = await started(t, { heartbeat_s: 1, silence_s: 3 });
  const network = await Network.to(t, router.port);
  const client = connectTo(t, network.url);
  const publisher = connectTo(t, router.url);
  const [{ client_id }] = await Promise.all([client.connect(), publisher.connect()]);
  const events = client.events("signals", { gaps: true });
  await client.fetchSubscriptions();
  const lost = once(client, "disconnected");
  const back = once(client, "connected");
  network.stall();
  await publisher.publishBatch("signals", Array(50).fill({ event_type: "signal.x" }));
  const mine = client.publish("signals", "signal.mine");
  assert.deepEqual(await lost, { code: 4000, reason: "the server is silent", reconnect: true });
  assert.equal((await back).client_id, client_id);
  assert.deepEqual((await mine).seq, [51, 51]);
  const ledger = new Ledger();
  for await (const item of events) {
    ledger.take(item);
    if (ledger.last === 51) break;
  }
  assert.equal(ledger.breaks, 0);
});
