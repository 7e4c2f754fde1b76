/** In a real browser, against the real router. */
import assert from "node:assert/strict";
import { after, type TestContext, test } from "node:test";
import type { Page } from "playwright-core";
import { connectTo, DEADLINE, Network, shared, started } from "./live.js";
import { closeBrowser, minified, openContext, openPage, serve } from "./pages.js";

after(closeBrowser);

const router = shared();

/** What a user's page would hold. What happens is kept for the test to look at. */
const PAGE = `<!doctype html><title>test</title><script type="module">
  import { NeurographWSClient } from "/client.js";
  const { url, channel } = Object.fromEntries(new URLSearchParams(location.search));
  const client = new NeurographWSClient({ url });
  const seen = [];
  const states = [];
  for (const name of ["connected", "disconnected", "reconnecting", "gap", "error"]) {
    client.on(name, (payload) => states.push([name, payload.reason ?? payload.message]));
  }
  client.subscribe(channel, ({ seq, data }) => seen.push([seq, data.n]));
  Object.assign(globalThis, { client, seen, states });
  await client.connect();
  await client.fetchSubscriptions(); // so that the server has them
  document.title = "ready";
</script>`;

/** A page that is subscribed by this address. */
async function pageOf(t: TestContext, url: string, channel = "signals") {
  const address = await serve(t, {
    "/": { type: "text/html", body: PAGE },
    "/client.js": await minified(),
  });
  const context = await openContext(t);
  const page = await openPage(t, context, "about:blank");
  const frames = new EventTarget();
  page.on("websocket", (socket) => {
    socket.on("framereceived", ({ payload }) => {
      frames.dispatchEvent(new Event(JSON.parse(String(payload)).type ?? "event"));
    });
  });
  await page.goto(`${address}/?${new URLSearchParams({ url, channel })}`);
  await page.waitForFunction(() => document.title === "ready");
  return { context, page, frames };
}

/** What the page has seen, when it is so many events. */
async function seen(page: Page, count: number): Promise<[seq: number, n: number][]> {
  await page.waitForFunction(`seen.length >= ${count}`);
  return page.evaluate("seen");
}

const numbered = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, n) => [first + n, first + n]);

const batch = (first: number, last: number) =>
  numbered(first, last).map(([n]) => ({ event_type: "signal.x", data: { n } }));

test("a page connects, subscribes, receives, publishes and leaves", DEADLINE, async (t) => {
  const publisher = connectTo(t, router.url);
  await publisher.connect();
  const { page } = await pageOf(t, router.url);
  await publisher.publishBatch("signals", batch(1, 500));
  assert.deepEqual(await seen(page, 500), numbered(1, 500));
  const own = await page.evaluate(() => client.publish("signals", "signal.x", { n: 501 }));
  assert.deepEqual([own.seq, own.subscribers], [[501, 501], 1]);
  assert.deepEqual((await seen(page, 501)).at(-1), [501, 501]);
  const looped = await page.evaluate(
    async () => {
      for await (const { seq } of client.events("actions", { last: 1 })) return seq;
    },
    await publisher.publish("actions", "action.executed"),
  );
  assert.equal(looped, 1);
  const refused = await page.evaluate(() => client.subscribe("nope"));
  assert.equal(refused, undefined);
  await page.waitForFunction(`states.some(([name, text]) => name === "error" && text.includes("nope"))`);
  assert.equal(await page.evaluate(() => client.disconnect().then(() => client.getConnectionInfo().state)), "closed");
});

test("on a quiet channel for longer than the server's patience", DEADLINE, async (t) => {
  const router = await started(t, { heartbeat_s: 1, silence_s: 3 });
  const publisher = connectTo(t, router.url);
  const { page, frames } = await pageOf(t, router.url);
  // The fifth ping comes after 5 s, in which the page has said nothing but its pongs.
  for (let n = 0; n < 5; n++) await new Promise((resolve) => frames.addEventListener("ping", resolve, { once: true }));
  await publisher.connect();
  await publisher.publishBatch("signals", batch(1, 1));
  assert.deepEqual(await seen(page, 1), [[1, 1]]);
  const { reconnects, state } = await page.evaluate(() => client.getConnectionInfo());
  assert.deepEqual([reconnects, state], [0, "open"]);
});

test("offline and back: everything by positions, and at once", DEADLINE, async (t) => {
  const network = await Network.to(t, router.port);
  const publisher = connectTo(t, router.url);
  await publisher.connect();
  const { page, context } = await pageOf(t, network.url, "actions");
  await publisher.publishBatch("actions", batch(1, 10));
  await seen(page, 10);
  // The next attempts would come after minutes: it is `online` that brings it back.
  await page.evaluate("Math.random = () => 500");
  await context.setOffline(true);
  await network.cut();
  await page.waitForFunction(`client.getConnectionInfo().state === "waiting"`);
  await publisher.publishBatch("actions", batch(11, 60));
  const queued = await page.evaluate(() => {
    client.publish("actions", "signal.x", { n: 61 });
    return client.getConnectionInfo().queued;
  });
  assert.equal(queued, 1);
  await network.back();
  await context.setOffline(false);
  const numbers = (await seen(page, 61)).map(([, n]) => n);
  assert.deepEqual(
    numbers,
    Array.from({ length: 61 }, (_, at) => at + 1),
  );
  assert.deepEqual(await page.evaluate(`states.filter(([name]) => name === "gap" || name === "error")`), []);
  assert.equal((await page.evaluate(() => client.getConnectionInfo())).reconnects, 1);
});

test("the page is seen again: at once as well", DEADLINE, async (t) => {
  const network = await Network.to(t, router.port);
  const { page } = await pageOf(t, network.url);
  await page.evaluate("Math.random = () => 500");
  await network.cut();
  await page.waitForFunction(`client.getConnectionInfo().state === "waiting"`);
  await network.back();
  // A browser without a window hides no page, so this is said in its place.
  await page.evaluate(`document.dispatchEvent(new Event("visibilitychange"))`);
  await page.waitForFunction(`client.isConnected()`);
});

test("the server is killed and comes back: the page is told what it lost", DEADLINE, async (t) => {
  const router = await started(t);
  const { page } = await pageOf(t, router.url);
  await page.evaluate(() => client.publish("signals", "signal.x", { n: 1 }));
  await seen(page, 1);
  await router.stop("SIGKILL");
  await started(t, {}, router.port);
  await page.waitForFunction(`client.isConnected()`);
  await page.evaluate(() => client.publish("signals", "signal.x", { n: 2 }));
  assert.deepEqual(await seen(page, 2), [
    [1, 1],
    [1, 2],
  ]);
  assert.deepEqual(await page.evaluate(`states.filter(([name]) => name === "gap")`), [["gap", "epoch_changed"]]);
});
