/** Writes events as fast as the socket takes them: frames encoded beforehand, 64 KiB a write. */
import { WebSocketServer } from "ws";

const EVENTS = Number(process.argv[2]);
const PER_WRITE = 250;

const CONNECTED = JSON.stringify({
  type: "connected",
  client_id: "6f1c2b3a-8d4e-4f5a-9b6c-7d8e9fa0b1c2",
  user_id: null,
  timestamp: "2024-12-29T12:00:00.123Z",
  role: "admin",
  reconnected: false,
  protocol: 1,
  epoch: "Zk3v9Q",
  heartbeat_s: 30,
  max_message_bytes: 65536,
  reconnection_token: "r.8fQ2",
  expires_in: 300,
});

function frame(seq) {
  const text = JSON.stringify({
    channel: "signals",
    timestamp: "2024-12-29T12:00:00.123Z",
    event_type: "signal.input.text",
    data: { event_id: `e-${seq}`, is_novel: true, priority: seq % 256, resonance_score: 0.5, neighbors_count: 4 },
    seq,
  });
  const head = Buffer.from([0x81, 126, 0, 0]);
  head.writeUInt16BE(Buffer.byteLength(text), 2);
  return Buffer.concat([head, Buffer.from(text)]);
}

const chunks = [];
for (let seq = 1; seq <= EVENTS; seq += PER_WRITE) {
  chunks.push(Buffer.concat(Array.from({ length: PER_WRITE }, (_, n) => frame(seq + n))));
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
server.on("connection", (ws, request) => {
  // A client of the contract is greeted, and hears what it subscribes to; any other is sent the events at once.
  const greeted = request.url.includes("heartbeat");
  const pour = async () => {
    for (const chunk of chunks) {
      if (!ws._socket.write(chunk)) await new Promise((resolve) => ws._socket.once("drain", resolve));
    }
  };
  if (!greeted) pour();
  else {
    ws.send(CONNECTED);
    ws.on("message", (data) => {
      const { id, type } = JSON.parse(data);
      if (type !== "subscribe") return;
      const positions = { signals: { epoch: "Zk3v9Q", seq: 0 } };
      ws.send(JSON.stringify({ type: "subscribed", id, channels: ["signals"], timestamp: "", positions }));
      pour();
    });
  }
});
server.on("listening", () => process.send(server.address().port));
process.on("disconnect", () => process.exit());
