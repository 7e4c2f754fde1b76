/**
 * How much of the speed of its WebSocket layer the client keeps: events/s beside a loop over the same layer that
 * only parses each event. Both take turns, against one server process; the medians are compared.
 *
 *     npm run build && node bench/ratio.mjs [events] [turns]
 */
import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";
import { NeurographWSClient } from "../dist/index.js";

const EVENTS = Number(process.argv[2] ?? 250_000);
const TURNS = Number(process.argv[3] ?? 5);

const server = fork(fileURLToPath(new URL("server.mjs", import.meta.url)), [String(EVENTS)]);
const port = await new Promise((resolve) => server.once("message", resolve));
const url = `ws://127.0.0.1:${port}/ws`;

/** Events a second from the first to the last; `start` is given what to call for each event. */
async function measure(start) {
  let stop;
  let began = 0;
  let count = 0;
  const rate = await new Promise((resolve) => {
    stop = start((event) => {
      if (count === 0) began = performance.now();
      if (++count === EVENTS) resolve((EVENTS - 1) / ((performance.now() - began) / 1000));
      return event.seq;
    });
  });
  (await stop)();
  return rate;
}

const ways = {
  /** The layer as its own users have it: Buffers from an emitter. */
  "ws, on()": (each) => {
    const socket = new WebSocket(url);
    socket.on("message", (data) => {
      each(JSON.parse(data.toString()));
    });
    return () => socket.terminate();
  },
  /** The layer as browsers have it. */
  "ws, onmessage": (each) => {
    const socket = new WebSocket(url);
    socket.onmessage = ({ data }) => {
      each(JSON.parse(data));
    };
    return () => socket.terminate();
  },
  subscribe: async (each) => {
    const client = new NeurographWSClient({ url, webSocket: WebSocket });
    client.subscribe("signals", (event) => {
      each(event);
    });
    await client.connect();
    return () => client.disconnect();
  },
  events: async (each) => {
    const client = new NeurographWSClient({ url, webSocket: WebSocket });
    const loop = async () => {
      for await (const event of client.events("signals", { buffer: EVENTS })) each(event);
    };
    loop();
    await client.connect();
    return () => client.disconnect();
  },
};

const rates = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
for (let turn = 0; turn <= TURNS; turn++) {
  for (const [name, start] of Object.entries(ways)) {
    const rate = await measure(start);
    if (turn > 0) rates[name].push(rate); // the first turn warms up
  }
}
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const bare = median(rates["ws, on()"]);
for (const [name, values] of Object.entries(rates)) {
  const rate = median(values);
  console.log(
    `${name.padEnd(14)} ${Math.round(rate).toLocaleString("en").padStart(9)} events/s   ${(rate / bare).toFixed(2)}`,
  );
}
server.disconnect();
