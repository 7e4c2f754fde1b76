/** Debian's Chromium, without a window, and a server of pages for it. */
import { createServer } from "node:http";
import type { TestContext } from "node:test";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { bundle } from "../scripts/bundle.mjs";
import { atEnd } from "./live.js";

/** A name of the page's own. */
declare global {
  // biome-ignore lint/suspicious/noExplicitAny: the page's scripts are written as text of a page's console
  var client: any;
}

export type Files = Record<string, { type: string; body: string | Buffer }>;

/** The client as it is published for pages. */
export async function minified(): Promise<{ type: string; body: Buffer }> {
  const { outputFiles } = await bundle({ minify: true });
  return { type: "text/javascript", body: Buffer.from(outputFiles?.[0]?.contents ?? []) };
}

/** Serve these files by their paths; the address without a slash at its end. */
export async function serve(t: TestContext, files: Files): Promise<string> {
  const server = createServer((request, response) => {
    const file = files[new URL(request.url ?? "/", "http://page").pathname];
    response.writeHead(file ? 200 : 404, { "content-type": `${file?.type ?? "text/plain"}; charset=utf-8` });
    response.end(file?.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  atEnd(t, () => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

let browser: Promise<Browser> | undefined;

/** A window of its own; the browser is the same for all tests of a file. */
export async function openContext(t: TestContext, options = {}): Promise<BrowserContext> {
  browser ??= chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"],
  });
  const context = await (await browser).newContext(options);
  atEnd(t, () => context.close());
  return context;
}

export async function closeBrowser(): Promise<void> {
  await (await browser)?.close();
}

/** A page with a script; what the page complains of fails the test at its end. */
export async function openPage(t: TestContext, context: BrowserContext, url: string): Promise<Page> {
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(url);
  atEnd(t, () => {
    if (complaints.length) throw new Error(complaints.join("\n"));
  });
  return page;
}
