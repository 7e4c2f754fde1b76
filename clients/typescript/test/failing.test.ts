/** The network fails, or the router: nothing is lost that is not told, and nothing comes twice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import WebSocket from "ws";
import { type NeurographWSClient, type Published, PublishUncertainError } from "../src/index.js";
import { connectTo, DEADLINE, Ledger, Network, once, shared, started } from "./live.js";

/** For networks that fail; a router that is to fail is its test's own. */
const router = shared();

test("the network fails: the session goes on, nothing is lost and nothing twice", DEADLINE, async (t) => {
  const sockets: WebSocket[] = [];
  class Cut extends WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      sockets.push(this);
    }
  }
  const client = connectTo(t, router.url, { webSocket: Cut });
  const { client_id } = await client.connect();
  const publisher = connectTo(t, router.url);
  await publisher.connect();
  const events = client.events("signals");
  await client.fetchSubscriptions();
  const answers = [];
  for (let n = 1; n <= 300; n++) {
    answers.push(publisher.publish("signals", "signal.x"));
    if (n % 100 === 0) {
      await Promise.all(answers);
      const back = once(client, "connected");
      // One goes out, and its answer is lost; the other one does not.
      answers.push(client.publish("signals", "signal.mine"));
      sockets.at(-1)?.terminate();
      answers.push(client.publish("signals", "signal.mine"));
      const again = await back;
      assert.deepEqual([again.reconnected, again.client_id], [true, client_id]);
    }
  }
  await Promise.all(answers);
  let last = 0;
  for await (const { seq } of events) {
    assert.equal(seq, ++last);
    if (last === 306) break;
  }
  assert.equal(client.getConnectionInfo().reconnects, 3);
  assert.deepEqual((await client.publish("signals", "signal.last")).seq, [307, 307], "something was published twice");
});

test("a router that takes small messages only: it comes back with all its channels", DEADLINE, async (t) => {
  const small = await started(t, { max_message_bytes: 1024, channels: '{"a.*": {"description": ""}}' });
  const network = await Network.to(t, small.port);
  const client = connectTo(t, network.url);
  const names = Array.from({ length: 36 }, (_, n) => `a.channel.number.${n}`);
  const failures: unknown[] = [];
  client.on("error", (error) => failures.push(error));
  const seen: unknown[] = [];
  client.subscribeMultiple(names, ({ channel, seq }) => seen.push([channel, seq]));
  await client.connect();
  assert.deepEqual((await client.fetchSubscriptions()).sort(), [...names].sort());
  const lost = once(client, "disconnected");
  await network.cut();
  await lost;
  const back = once(client, "connected");
  await network.back();
  await back;
  assert.deepEqual((await client.fetchSubscriptions()).sort(), [...names].sort());
  assert.deepEqual([failures, client.getConnectionInfo().reconnects], [[], 1]);
});

test("what was published right before disconnect is answered", DEADLINE, async (t) => {
  const client = connectTo(t, router.url);
  await client.connect();
  const answers = Array.from({ length: 50 }, () => client.publish("status", "signal.last"));
  await client.disconnect();
  const seqs = (await Promise.all(answers)).map(({ seq }) => seq[0]);
  assert.deepEqual(seqs.length, 50);
});

test("the router is killed and comes back: a gap says that the numbering began anew", DEADLINE, async (t) => {
  const router = await started(t);
  const client = connectTo(t, router.url);
  const { epoch } = await client.connect();
  const events = client.events("signals", { gaps: true });
  await client.publish("signals", "signal.x");
  assert.equal((await events.next()).value.seq, 1);
  const lost = once(client, "disconnected");
  const back = once(client, "connected");
  await router.stop("SIGKILL");
  assert.equal((await lost).reconnect, true);
  const offline = client.publish("signals", "signal.offline");
  await started(t, {}, router.port);
  const { epoch: next } = await back;
  assert.notEqual(next, epoch);
  assert.deepEqual((await offline).seq, [1, 1]);
  const gap = (await events.next()).value;
  assert.deepEqual([gap.reason, gap.epoch, gap.from], ["epoch_changed", epoch, 2]);
  assert.equal((await events.next()).value.event_type, "signal.offline");
  assert.deepEqual(client.getConnectionInfo().positions.signals, { epoch: next, seq: 1 });
});

/** Publishes numbered events as fast as they are answered, until it is told to stop. */
function load(client: NeurographWSClient) {
  const answered: { n: number; answer: Published }[] = [];
  let going = true;
  let n = 0;
  const one = async (): Promise<void> => {
    while (going) {
      const data = { n: ++n };
      try {
        answered.push({ n: data.n, answer: await client.publish("signals", "signal.x", data) });
      } catch (error) {
        assert(error instanceof PublishUncertainError, `${error}`);
      }
    }
  };
  const all = Promise.all(Array.from({ length: 20 }, one));
  return {
    /** Resolves with what was answered, when all is. */
    stop: async () => {
      going = false;
      await all;
      return answered;
    },
  };
}

test("the router is killed under load, twice: each loss is told, nothing comes twice", DEADLINE, async (t) => {
  let router = await started(t);
  const publisher = connectTo(t, router.url);
  const client = connectTo(t, router.url);
  await Promise.all([publisher.connect(), client.connect()]);
  const events = client.events("signals", { gaps: true, buffer: 1_000_000 });
  await client.fetchSubscriptions();
  const publishing = load(publisher);
  const ledger = new Ledger();
  const seen = new Set<unknown>();
  /** Events since the last break. */
  let fresh = 0;
  /** Where the stream ends. */
  let end: number | undefined;
  for await (const item of events) {
    ledger.take(item);
    if ("of" in item) {
      if (item.to === null) fresh = 0;
      continue;
    }
    assert(!seen.has(item.data.n), `${item.data.n} came twice`);
    seen.add(item.data.n);
    if (++fresh === 300 && ledger.breaks < 2) {
      await router.stop("SIGKILL");
      router = await started(t, {}, router.port);
    } else if (fresh === 300) {
      // What this process has answered comes, all of it.
      const answered = await publishing.stop();
      end = Math.max(...answered.slice(-20).map(({ answer }) => answer.seq[1]));
    }
    if (end !== undefined && ledger.last >= end) break;
  }
  assert.deepEqual([ledger.breaks, ledger.last], [2, end]);
});

test("the network is down for a while: at once again when told that it is back", DEADLINE, async (t) => {
  const network = await Network.to(t, router.port);
  const client = connectTo(t, network.url);
  const publisher = connectTo(t, router.url);
  await Promise.all([client.connect(), publisher.connect()]);
  const events = client.events("actions", { gaps: true });
  await client.fetchSubscriptions();
  const lost = once(client, "disconnected");
  await network.cut();
  await lost;
  const mine = client.publish("actions", "signal.mine");
  await publisher.publishBatch("actions", Array(20).fill({ event_type: "signal.x" }));
  await network.back();
  client.connect(); // what the browser's `online` does
  await mine;
  const ledger = new Ledger();
  for await (const item of events) {
    ledger.take(item);
    if (ledger.last === 21) break;
  }
  assert.equal(ledger.breaks, 0);
});
