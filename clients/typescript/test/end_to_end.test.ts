/** Against the real router, started here. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Position, RequestRefusedError } from "../src/index.js";
import { connectTo, DEADLINE, once, shared, started } from "./live.js";

const router = shared();

test("connect, subscribe, publish, ask", DEADLINE, async (t) => {
  const client = connectTo(t, router.url);
  const info = await client.connect();
  assert.equal(info.role, "admin");
  const events = client.events("signals");
  const first = await client.publish("signals", "signal.x", { priority: 7 });
  assert.deepEqual([first.seq, first.subscribers], [[1, 1], 1]);
  const batch = await client.publishBatch("signals", [{ event_type: "signal.y" }, { event_type: "signal.z" }]);
  assert.deepEqual(batch.seq, [2, 3]);
  const seen = [];
  for await (const { seq, event_type } of events) {
    seen.push([seq, event_type]);
    if (seq === 3) break;
  }
  assert.deepEqual(seen, [
    [1, "signal.x"],
    [2, "signal.y"],
    [3, "signal.z"],
  ]);
  const history = await client.history("signals", { last: 2 });
  assert.deepEqual(
    history.events.map(({ seq }) => seq),
    [2, 3],
  );
  assert((await client.ping()) >= 0);
  client.subscribe("metrics");
  assert.deepEqual(await client.fetchSubscriptions(), ["metrics"]);
  await assert.rejects(client.publish("signals", "signal.x", { priority: 300 }), RequestRefusedError);
  await assert.rejects(client.history("signals", { after: { epoch: "of-old", seq: 1 } }), { epoch: info.epoch });
});

test("filters, policies, recovery, and a channel that there is not", DEADLINE, async (t) => {
  const client = connectTo(t, router.url);
  const denied = once(client, "error");
  client.subscribe("nope");
  const { epoch } = await client.connect();
  assert.deepEqual([(await denied).code, (await denied).channel], ["unknown_channel", "nope"]);
  const batch = Array.from({ length: 10 }, (_, priority) => ({ event_type: "signal.x", data: { priority } }));
  await client.publishBatch("actions", batch);
  const position: Position = { epoch, seq: 2 };
  const filter = { "data.priority": { $gte: 7 } };
  const events = client.events("actions", { filter, policy: "drop_newest", recover: { actions: position } });
  const seen = [];
  for await (const { seq } of events) {
    seen.push(seq);
    if (seq === 10) break;
  }
  assert.deepEqual(seen, [8, 9, 10]);
});

test("10,000 events in order", DEADLINE, async (t) => {
  const client = connectTo(t, router.url);
  await client.connect();
  const events = client.events("signals", { buffer: 10_000, gaps: true });
  await client.fetchSubscriptions();
  const first = client.getConnectionInfo().positions.signals?.seq ?? 0;
  const batch = Array.from({ length: 500 }, () => ({ event_type: "signal.x" }));
  const publishing = (async () => {
    for (let n = 0; n < 20; n++) await client.publishBatch("signals", batch);
  })();
  let last = first;
  for await (const item of events) {
    assert("seq" in item, `a loss: ${JSON.stringify(item)}`);
    assert.equal(item.seq, last + 1);
    if (++last === first + 10_000) break;
  }
  await publishing;
});

test("goodbye, and nothing is listening: connect says so", DEADLINE, async (t) => {
  const router = await started(t);
  const client = connectTo(t, router.url);
  await client.connect();
  const [goodbye, lost] = [once(client, "goodbye"), once(client, "disconnected")];
  await router.stop();
  assert.equal((await goodbye).reason, "shutdown");
  assert.deepEqual([(await lost).code, (await lost).reconnect], [1001, true]);
  const late = connectTo(t, router.url);
  await assert.rejects(late.connect(), { code: 1006, message: /ECONNREFUSED/ });
});
