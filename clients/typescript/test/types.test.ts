/** What the compiler knows: this file is tested by `npm run check`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Channel,
  type ChannelEvent,
  type EventOf,
  type Gap,
  type NeurographWSClient,
  type Published,
} from "../src/index.js";

declare module "../src/index.js" {
  interface ChannelData {
    orders: { total: number };
  }
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <_Check extends true>() => {};

export async function compiles(client: NeurographWSClient): Promise<void> {
  client.subscribe("metrics", (event) => {
    same<Same<typeof event.channel, "metrics">>();
    same<Same<typeof event.data.cpu_percent, number | undefined>>();
    same<Same<typeof event.data.total_tokens, number | null | undefined>>();
  });
  client.subscribe(Channel.SIGNALS, ({ data }) => same<Same<typeof data.priority, number | undefined>>());
  client.subscribe("sensors.room-1", ({ data }) => same<Same<typeof data, Record<string, unknown>>>());
  client.subscribe("orders", ({ data }) => same<Same<typeof data, { total: number }>>());
  client.subscribe(`room-${1 + 1}` as string, async ({ data }) => data.anything);
  client.subscribeMultiple(["metrics", "logs"], (event) => {
    if (event.channel === "logs") same<Same<typeof event.data.level, string | undefined>>();
  });
  for await (const event of client.events("signals")) same<Same<typeof event, EventOf<"signals">>>();
  for await (const item of client.events("signals", { gaps: true })) {
    same<Same<typeof item, EventOf<"signals"> | Gap>>();
    if (!("of" in item)) same<Same<typeof item.data.is_novel, boolean | undefined>>();
  }
  const answer = await client.publish("signals", "signal.x", { priority: 1, more: "than is known" });
  same<Same<typeof answer, Published>>();
  const { events } = await client.history("actions", { last: 3 });
  same<Same<(typeof events)[0], EventOf<"actions">>>();
  client.on("connected", (info) => info.client_id.length);
  client.on("disconnected", ({ code, reconnect }) => [code.toFixed(), reconnect]);
  // @ts-expect-error: no such name
  client.on("conected", () => {});
  // @ts-expect-error: priority is a number
  client.publish("signals", "signal.x", { priority: "high" });
  // @ts-expect-error: no such policy
  client.subscribe("signals", () => {}, { policy: "newest" });
}

test("the constants are the channels' names", () => {
  const event: ChannelEvent = { channel: Channel.METRICS, timestamp: "", event_type: "x", data: {} };
  assert.equal(event.channel, "metrics");
  assert.deepEqual(Object.values(Channel).length, 8);
});
