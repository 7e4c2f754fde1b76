/** The page in examples/browser, as a person sees it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, type TestContext, test } from "node:test";
import type { Page } from "playwright-core";
import { connectTo, DEADLINE, Network, started } from "./live.js";
import { closeBrowser, minified, openContext, openPage, serve } from "./pages.js";

after(closeBrowser);

const FOLDER = new URL("../../../examples/browser/", import.meta.url);
const HTML = readFileSync(new URL("index.html", FOLDER), "utf8");
/** Where the page is and where its bundle, as seen from the project's root. */
const PAGE = "/examples/browser/";
const BUNDLE = "/clients/typescript/dist/index.min.js";
/** For a look at it: a folder for pictures. */
const { SCREENSHOTS } = process.env;

async function open(t: TestContext, url: string, options = {}, files = {}) {
  const address = await serve(t, { [PAGE]: { type: "text/html", body: HTML }, ...files });
  const context = await openContext(t, { viewport: { width: 1100, height: 900 }, ...options });
  return { context, page: await openPage(t, context, `${address}${PAGE}?url=${encodeURIComponent(url)}`) };
}

/** It fits into its window; and may be looked at. */
async function picture(page: Page, name: string): Promise<void> {
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0, `${name}: too wide`);
  if (SCREENSHOTS) await page.screenshot({ path: `${SCREENSHOTS}/${name}.png`, fullPage: true });
}

test("the page shows the channels, and comes back", DEADLINE, async (t) => {
  const router = await started(t, { metrics_interval_s: 0.1 });
  const network = await Network.to(t, router.port);
  const publisher = connectTo(t, router.url);
  await publisher.connect();
  await publisher.publish("signals", "signal.before", { event_id: "<b>no markup</b>", priority: 250 });
  const { page } = await open(t, network.url, {}, { [BUNDLE]: await minified() });
  await page.locator("#state.open").waitFor();
  await page.locator("#signals li", { hasText: "signal.before" }).waitFor();
  await page.locator("#metrics tr", { hasText: "Router CPU" }).waitFor();
  await page.waitForFunction(`document.querySelector("polyline").points.length >= 30`);
  await page.locator("#publish [name=text]").fill("from the page");
  await page.locator("#publish button").click();
  await page.locator("#signals li", { hasText: "from the page" }).waitFor();
  assert.equal(await page.locator("#signals b").count(), 0);

  await network.cut();
  await page.locator("#state.waiting").waitFor();
  await page.locator("#publish button").click();
  await page.locator("#state", { hasText: "1 to be sent" }).waitFor();
  await publisher.publishBatch("signals", Array(3).fill({ event_type: "signal.meanwhile" }));
  await network.back();
  await page.locator("#state.open").waitFor();
  await page.locator("#count", { hasText: "6" }).waitFor();
  const rows = await page.locator("#signals .seq").allTextContents();
  assert.deepEqual(rows, ["#6", "#5", "#4", "#3", "#2", "#1"]);

  await router.stop("SIGKILL");
  await page.locator("#state:not(.open)").waitFor();
  await started(t, { metrics_interval_s: 0.1 }, router.port);
  await page.locator("#signals li.gap", { hasText: "began anew" }).waitFor();
  await page.locator("#lost", { hasText: "some" }).waitFor();
  await picture(page, "wide");

  const phone = { viewport: { width: 390, height: 844 }, colorScheme: "dark" };
  const { page: narrow } = await open(t, network.url, phone, { [BUNDLE]: await minified() });
  await narrow.locator("#metrics tr", { hasText: "Router CPU" }).waitFor();
  await narrow.waitForFunction(`document.querySelector("polyline").points.length >= 10`);
  await narrow.locator(".empty:visible", { hasText: "None yet" }).waitFor();
  await picture(narrow, "narrow");
});

test("without its bundle the page says what to do", DEADLINE, async (t) => {
  const { page } = await open(t, "ws://127.0.0.1:9/ws");
  await page.locator("#log li", { hasText: "npm run build in clients/typescript" }).waitFor();
});

test("without a router the page says so, and tries again", DEADLINE, async (t) => {
  const router = await started(t);
  await router.stop();
  const { page } = await open(t, router.url, {}, { [BUNDLE]: await minified() });
  await page.locator("#log li", { hasText: `Is there a router at ${router.url}?` }).waitFor();
  await started(t, {}, router.port);
  await page.locator("#state.open").waitFor();
});

test("the line that serves it is in the page and in its README", () => {
  const line = "python3 -m http.server --bind 127.0.0.1 9000";
  const at = `http://127.0.0.1:9000${PAGE}`;
  const readme = readFileSync(new URL("README.md", FOLDER), "utf8");
  for (const text of [HTML, readme]) assert(text.includes(line) && text.includes(at));
  assert(HTML.includes(`"../..${BUNDLE}"`));
});
