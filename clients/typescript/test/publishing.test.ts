import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ClosedError,
  NeurographWSClient,
  PublishUncertainError,
  QueueFullError,
  RequestRefusedError,
} from "../src/index.js";
import { event, FakeSocket, GREETING, harness, published, refusal, settle, type Wire } from "./harness.js";

const nothing = () => {};

/** The event types of what was published on a socket, in order. */
function types(socket: FakeSocket): unknown[] {
  return socket.of("publish").map(({ event_type }) => event_type);
}

test("publish is sent with an id and a key, and resolves with the answer", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  const answer = client.publish("signals", "signal.x", { priority: 3 });
  const { id, key, ...message } = socket.last;
  assert.deepEqual(message, { type: "publish", channel: "signals", event_type: "signal.x", data: { priority: 3 } });
  assert.equal(typeof id, "string");
  assert.match(key, /^.{1,64}$/);
  assert.equal(client.getConnectionInfo().queued, 1);
  socket.says(published(id, 42));
  assert.deepEqual((await answer).seq, [42, 42]);
  assert.equal(client.getConnectionInfo().queued, 0);
});

test("a batch is one message; keys are the user's where given, else all different", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  client.publishBatch("signals", [{ event_type: "a", data: {} }, { event_type: "b" }], "k-1").catch(nothing);
  client.publish("signals", "x").catch(nothing);
  client.publish("signals", "x").catch(nothing);
  const [batch, one, two] = socket.sent as [Wire, Wire, Wire];
  assert.deepEqual(batch.events, [{ event_type: "a", data: {} }, { event_type: "b" }]);
  assert.equal(batch.key, "k-1");
  assert.equal(one.data instanceof Object, true);
  assert.equal(new Set([batch.key, one.key, two.key]).size, 3);
  for (const events of [[], Array(1001).fill({ event_type: "x" })]) {
    await assert.rejects(client.publishBatch("signals", events), /1 to 1,000 events|events: 1 to 1,000/);
  }
  assert.equal(socket.sent.length, 3);
});

test("the keys of two clients differ", () => {
  const keys = [0, 1].map(() => {
    const sockets: FakeSocket[] = [];
    class Socket extends FakeSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols);
        sockets.push(this);
      }
    }
    const client = new NeurographWSClient({ url: "ws://router.test/ws", webSocket: Socket });
    client.on("error", nothing);
    client.connect().catch(nothing);
    sockets[0]?.says(GREETING);
    client.publish("signals", "x").catch(nothing);
    const key = sockets[0]?.last.key;
    client.disconnect();
    sockets[0]?.ends(1000);
    return key;
  });
  assert.match(keys[0], /^.{16,64}$/);
  assert.notEqual(keys[0], keys[1]);
});

test("what cannot be sent fails", async (t) => {
  const { client, open } = harness(t);
  await open({ max_message_bytes: 300 });
  await assert.rejects(client.publish("signals", "x", { big: 1n }), TypeError);
  await assert.rejects(client.publish("signals", "x", { text: "é".repeat(150) }), {
    name: "RequestRefusedError",
    code: "payload_too_large",
    message: /300 bytes/,
  });
  assert.equal(client.getConnectionInfo().queued, 0);
});

test("a refusal rejects, with code, message and index", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  const answer = client.publishBatch("signals", [{ event_type: "a" }]);
  socket.says(refusal(socket.last.id, "invalid_message", { index: 0, message: "events[0].data: no" }));
  await assert.rejects(answer, (error: RequestRefusedError) => {
    assert(error instanceof RequestRefusedError);
    assert.deepEqual([error.code, error.message, error.index], ["invalid_message", "events[0].data: no", 0]);
    return true;
  });
});

test("an ignored publish tells its failure by `error`, an awaited one does not", async (t) => {
  const { client, open, errors } = harness(t);
  const socket = await open();
  client.publish("signals", "ignored");
  const awaited = assert.rejects(client.publish("signals", "awaited"));
  for (const { id } of socket.sent) socket.says(refusal(id, "permission_denied"));
  await awaited;
  await settle();
  assert.deepEqual(
    errors.map(({ code }) => code),
    ["permission_denied"],
  );
});

test("what fails at once is not reported where it is awaited", async (t) => {
  const { client, errors } = harness(t);
  client.disconnect();
  await assert.rejects(client.publish("signals", "x"), ClosedError);
  await assert.rejects(Promise.all([client.publish("signals", "x")]), ClosedError);
  await assert.rejects(async () => client.publish("signals", "x"), ClosedError);
  await assert.rejects(
    (async () => {
      await client.publish("signals", "x").finally(nothing);
    })(),
    ClosedError,
  );
  await settle();
  assert.deepEqual(errors, []);
});

test("what is published before connecting is sent when connected, in order", async (t) => {
  const { client, open } = harness(t);
  for (const type of ["a", "b", "c"]) client.publish("signals", type).catch(nothing);
  assert.equal(client.getConnectionInfo().queued, 3);
  assert.deepEqual(types(await open()), ["a", "b", "c"]);
});

test("what was not answered is sent again, the same, in order, before what is new", async (t) => {
  const { client, open, comeBack } = harness(t);
  const first = await open();
  const [a] = ["a", "b", "c"].map((type) => client.publish("signals", type));
  first.says(published(first.sent[0]?.id));
  await a;
  const later = comeBack();
  await settle();
  client.publish("signals", "d");
  const again = await later;
  assert.deepEqual(types(again), ["b", "c", "d"]);
  assert.deepEqual(again.of("publish").slice(0, 2), first.sent.slice(1));
});

test("the queue is bounded in number", async (t) => {
  const { client, open } = harness(t);
  for (let n = 0; n < 1000; n++) client.publish("signals", "x");
  await assert.rejects(client.publish("signals", "x"), (error: Error) => {
    assert(error instanceof QueueFullError);
    assert.match(error.message, /1000 publishes .* wait for the server, at most 1000 .* await some of them first/);
    return true;
  });
  const socket = await open();
  socket.says(published(socket.sent[0]?.id));
  client.publish("signals", "fits again");
  assert.equal(socket.sent.length, 1001);
});

test("the queue is bounded in size", async (t) => {
  const { client, open } = harness(t);
  const text = "x".repeat(60_000);
  for (let n = 0; n < 17; n++) client.publish("signals", "x", { text });
  await assert.rejects(client.publish("signals", "x", { text }), QueueFullError);
  client.publish("signals", "small");
  const socket = await open();
  assert.equal(socket.sent.length, 18);
  for (const { id } of socket.sent) socket.says(published(id));
  for (let n = 0; n < 17; n++) client.publish("signals", "x", { text });
  assert.equal(socket.sent.length, 35);
});

test("sent, not answered, and another epoch: nobody knows", async (t) => {
  const { client, open, comeBack } = harness(t);
  await open();
  const sent = assert.rejects(client.publish("signals", "sent"), (error: Error) => {
    assert(error instanceof PublishUncertainError);
    assert.match(error.message, /may or may not have been published/);
    return true;
  });
  const waiting = comeBack({ epoch: "e2" });
  await settle();
  client.publish("signals", "never sent");
  assert.deepEqual(types(await waiting), ["never sent"]);
  await sent;
});

test("the epoch that counts is the one it was sent in", async (t) => {
  const { client, open, comeBack } = harness(t);
  const first = await open();
  first.says({ type: "position", positions: { signals: { epoch: "e2", seq: 0 } } });
  client.publish("signals", "x");
  assert.deepEqual(types(await comeBack({ epoch: "e2" })), ["x"]);
});

test("sent, not answered, and two minutes gone: nobody knows", async (t) => {
  const { client, clock, open, socket } = harness(t);
  await open();
  const answer = client.publish("signals", "x");
  const failed = assert.rejects(answer, PublishUncertainError);
  clock.tick(1000);
  const fresh = client.publish("signals", "y");
  socket().ends();
  let refused = 0;
  for (; client.getConnectionInfo().queued === 2; refused++) {
    clock.next(); // the server does not come back
    if (client.getConnectionInfo().state === "connecting") socket().ends();
  }
  await failed;
  assert(performance.now() >= 115_000 && performance.now() < 140_000, `${performance.now()}`);
  assert(refused > 5);
  client.disconnect();
  await assert.rejects(fresh, PublishUncertainError);
});

test("a key lives from when it was sent first", async (t) => {
  const { client, clock, open, comeBack } = harness(t);
  const socket = await open();
  const failed = assert.rejects(client.publish("signals", "x"), PublishUncertainError);
  for (let n = 0; n < 4; n++) {
    clock.tick(28_000);
    socket.says({ type: "ping", timestamp: "" });
  }
  assert.deepEqual(types(await comeBack()), ["x"]);
  clock.tick(3_000);
  assert.deepEqual(types(await comeBack()), []);
  await failed;
});

test("an answer that does not come is not waited for any longer than its key lives", async (t) => {
  const { client, clock, open, socket } = harness(t);
  await open();
  const failed = assert.rejects(client.publish("signals", "x"), PublishUncertainError);
  for (let n = 0; n < 6; n++) {
    clock.tick(30_000);
    socket().says({ type: "ping", timestamp: "" });
  }
  await failed;
});

test("rate_limited: sent again after retry_after, in order, one at a time", async (t) => {
  const { client, clock, open } = harness(t);
  const socket = await open();
  const answers = ["a", "b", "c"].map((type) => client.publish("signals", type));
  const [a, b, c] = socket.sent as [Wire, Wire, Wire];
  socket.says(published(a.id, 1));
  for (const { id } of [b, c]) socket.says(refusal(id, "rate_limited", { retry_after: 0.5 }));
  answers.push(client.publish("signals", "d"));
  assert.deepEqual(types(socket), ["a", "b", "c"]);
  clock.tick(500);
  assert.deepEqual(types(socket).slice(3), ["b"]);
  socket.says(published(b.id, 2));
  assert.deepEqual(types(socket).slice(3), ["b", "c"]);
  socket.says(refusal(c.id, "rate_limited", { retry_after: 0.1 }));
  clock.tick(100);
  socket.says(published(c.id, 3));
  socket.says(published(socket.last.id, 4));
  assert.deepEqual(types(socket).slice(3), ["b", "c", "c", "d"]);
  assert.deepEqual(
    (await Promise.all(answers)).map(({ seq }) => seq[0]),
    [1, 2, 3, 4],
  );
});

test("a new connection has a new rate", async (t) => {
  const { client, open, comeBack } = harness(t);
  const first = await open();
  for (const type of ["a", "b"]) client.publish("signals", type);
  for (const { id } of first.sent) first.says(refusal(id, "rate_limited", { retry_after: 60 }));
  assert.deepEqual(types(await comeBack()), ["a", "b"]);
});

test("what was refused is not uncertain", async (t) => {
  const { client, open, comeBack } = harness(t);
  const first = await open();
  client.publish("signals", "x");
  first.says(refusal(first.last.id, "rate_limited", { retry_after: 60 }));
  assert.deepEqual(types(await comeBack({ epoch: "e2" })), ["x"]);
});

test("a refusal says nothing of an earlier connection, on which it may have been published", async (t) => {
  const limited = (socket: FakeSocket) => {
    socket.says(refusal(socket.last.id, "rate_limited", { retry_after: 1 }));
  };
  await t.test("another epoch", async (t) => {
    const { client, open, comeBack } = harness(t);
    await open();
    const failed = assert.rejects(client.publish("signals", "x"), PublishUncertainError);
    limited(await comeBack());
    assert.deepEqual(types(await comeBack({ epoch: "e2" })), []);
    await failed;
  });
  await t.test("the key's time is over", async (t) => {
    const { client, clock, open, comeBack } = harness(t);
    await open();
    const failed = assert.rejects(client.publish("signals", "x"), PublishUncertainError);
    const socket = await comeBack();
    for (let s = 0; s < 116; s++) {
      limited(socket);
      clock.tick(1000);
    }
    await failed;
    assert(socket.sent.length > 100);
    client.publish("signals", "y");
    assert.equal(socket.last.event_type, "y");
  });
  await t.test("until then it is sent again", async (t) => {
    const { client, clock, open, comeBack } = harness(t);
    await open();
    const answer = client.publish("signals", "x");
    const socket = await comeBack();
    limited(socket);
    clock.tick(1000);
    socket.says(published(socket.last.id, 5));
    assert.deepEqual((await answer).seq, [5, 5]);
  });
});

test("disconnect fails what waits: uncertain where it was sent", async (t) => {
  const { client, clock, open, socket } = harness(t);
  await open();
  const sent = client.publish("signals", "sent");
  socket().ends();
  const queued = client.publish("signals", "queued");
  client.disconnect();
  await assert.rejects(sent, PublishUncertainError);
  await assert.rejects(queued, ClosedError);
  assert.equal(client.getConnectionInfo().queued, 0);
  assert.equal(clock.countTimers(), 0);
});

test("what was published is answered before the close", async (t) => {
  const { client, clock, open, told } = harness(t);
  const socket = await open();
  const seen: unknown[] = [];
  client.subscribe("signals", ({ seq }) => seen.push(seq));
  const answers = [client.publish("signals", "a"), client.publish("signals", "b")];
  const refused = assert.rejects(client.publish("nope", "c"), { code: "permission_denied" });
  const ping = assert.rejects(client.ping(), ClosedError);
  const ending = client.disconnect();
  assert.deepEqual([client.getConnectionInfo().state, socket.closedWith], ["closed", undefined]);
  await ping;
  await assert.rejects(client.publish("signals", "d"), ClosedError);
  const [a, b, c] = socket.of("publish") as [Wire, Wire, Wire];
  socket.says({ type: "ping", timestamp: "" }, event(1), published(a.id, 1));
  socket.saysText("{");
  socket.says(published(b.id, 2));
  assert.equal(socket.closedWith, undefined);
  socket.says(refusal(c.id, "permission_denied"));
  assert.equal(socket.closedWith, 1000);
  socket.ends(1000);
  await Promise.all([ending, refused]);
  assert.deepEqual(
    (await Promise.all(answers)).map(({ seq }) => seq[0]),
    [1, 2],
  );
  assert.deepEqual(seen, []);
  assert.equal(told.at(-1)?.name, "disconnected");
  assert.equal(clock.countTimers(), 0);
});

test("an answer that does not come is not waited for, and then it is uncertain", async (t) => {
  for (const lost of [false, true]) {
    await t.test(lost ? "the connection is lost" : "in 2 s", async (t) => {
      const { client, clock, open } = harness(t);
      const socket = await open();
      const uncertain = assert.rejects(client.publish("signals", "x"), PublishUncertainError);
      const ending = client.disconnect();
      clock.tick(1999);
      assert.equal(socket.closedWith, undefined);
      if (!lost) {
        clock.tick(1);
        assert.equal(socket.closedWith, 1000);
      }
      socket.ends();
      await Promise.all([ending, uncertain]);
      assert.equal(client.getConnectionInfo().queued, 0);
      assert.equal(clock.countTimers(), 0);
    });
  }
});

test("an answer that comes behind the close counts, and does not put the end off", async (t) => {
  const { client, clock, open } = harness(t);
  const socket = await open();
  const answer = client.publish("signals", "x");
  const ending = client.disconnect();
  clock.tick(2000 + 2999);
  assert.equal(socket.terminated, false);
  socket.says(published(socket.last.id, 7), event(7));
  clock.tick(1);
  assert.equal(socket.terminated, true);
  await ending;
  assert.deepEqual((await answer).seq, [7, 7]);
});

test("disconnect while coming back waits for no answers: there is nobody to give them", async (t) => {
  const { client, clock, open, socket } = harness(t);
  await open();
  const uncertain = assert.rejects(client.publish("signals", "x"), PublishUncertainError);
  socket().ends();
  clock.next();
  const ending = client.disconnect();
  assert.equal(socket().closedWith, 1000);
  socket().ends(1000);
  await Promise.all([ending, uncertain]);
});

test("what is no JSON is refused in words, not sent as null", async (t) => {
  const { client, open } = harness(t);
  const socket = await open();
  for (const load of [Number.NaN, Number.POSITIVE_INFINITY]) {
    await assert.rejects(client.publish("signals", "x", { at: [{ load }] }), {
      name: "TypeError",
      message: `load: ${load} is not a number in JSON: leave it out, or say null`,
    });
  }
  assert.deepEqual(socket.sent, []);
});

test("disconnect leaves no timer of a rate limit", async (t) => {
  const { client, clock, open } = harness(t);
  const socket = await open();
  client.publish("signals", "x");
  client.subscribe("signals");
  client.ping();
  await settle();
  for (const { id } of socket.sent.slice(0, 2)) socket.says(refusal(id, "rate_limited", { retry_after: 60 }));
  const ending = client.disconnect();
  socket.ends(1000);
  await ending;
  assert.equal(clock.countTimers(), 0);
});
