/** What differs between browsers, Node, Deno and Bun. */
import type { SocketClass } from "./options.js";

/** The class to connect with. Throws TypeError where there is none. */
export function socketClass(given: SocketClass | undefined): SocketClass {
  const found = given ?? (globalThis.WebSocket as SocketClass | undefined);
  if (!found) {
    throw new TypeError(
      "there is no global WebSocket: npm install ws, and write " +
        'import WebSocket from "ws"; new NeurographWSClient({ url, webSocket: WebSocket })',
    );
  }
  return found;
}

/** The address, which may be relative to the page. Throws TypeError, without what was given: it may hold a token. */
export function addressIn(given: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(given, globalThis.location?.href);
    url.protocol = url.protocol.replace("http", "ws");
    if (url.pathname === "/") url.pathname = "/ws";
  } catch {}
  if (!url || !/^wss?:$/.test(url.protocol)) {
    throw new TypeError("url: it is like ws://127.0.0.1:8000/ws or wss://example.org/ws");
  }
  return url;
}

/** Call `wake` when the network is back or the page is seen again; the result ends that. */
export function watchPage(wake: () => void): () => void {
  const page = globalThis.document as Document | undefined;
  const seen = () => page?.visibilityState === "visible" && wake();
  globalThis.addEventListener?.("online", wake);
  page?.addEventListener("visibilitychange", seen);
  return () => {
    globalThis.removeEventListener?.("online", wake);
    page?.removeEventListener("visibilitychange", seen);
  };
}
