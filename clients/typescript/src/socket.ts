/** One WebSocket: how it is opened, and the two ways to be rid of it. */
import type { SocketLike } from "./options.js";
import type { Message } from "./protocol.js";

/** A page may close with 1000 and 3000 to 4999 only; this stands for 1002, protocol error. */
export const BROKEN_CONTRACT = 3002;
export const SILENT = 4000;

/** For what is to be heard before the close. */
const ANSWERS_MS = 2_000;
/** For the server's answer to a close. */
const CLOSING_MS = 3_000;

/** The address to connect to; `session` is the token that takes up a session. */
export function addressOf(base: URL, session: string | undefined): string {
  const url = new URL(base);
  url.searchParams.set("heartbeat", "message");
  if (session) {
    url.searchParams.set("reconnection_token", session);
    url.searchParams.set("resume", "1");
  }
  return url.href;
}

/** The subprotocols, which carry the token. Throws TypeError where it cannot be one. */
export function protocolsOf(token: string | null | undefined): string[] {
  const protocols = ["neurograph.v1"];
  if (token) {
    // The socket's own error would repeat the token, and then stand in somebody's log.
    if (!/^[\w.~-]+$/.test(token)) throw new TypeError("token: a JWT has only letters, digits and - _ . ~");
    protocols.push(`bearer.${token}`);
  }
  return protocols;
}

/** Let go of a socket at once, whatever it says from now on. */
export function drop(socket: SocketLike, code: number): void {
  silence(socket);
  // With 1000 the session would end.
  socket.close(code === BROKEN_CONTRACT ? code : SILENT);
  socket.terminate?.();
}

/**
 * Close in order, when the server has answered what was asked: a browser hears nothing behind its own close. Neither
 * that nor the server's part in the closing is waited for longer than its time.
 */
export function closing(
  socket: SocketLike,
  answer: (message: Message) => void,
  isAnswered: () => boolean,
): Promise<void> {
  return new Promise((resolve) => {
    let timer: ReturnType<typeof setTimeout>;
    const hear: SocketLike["onmessage"] = ({ data }) => {
      try {
        answer(JSON.parse(data as string));
      } catch {} // whatever it is, it is no answer
    };
    const close = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        socket.terminate?.();
        resolve();
      }, CLOSING_MS);
      socket.onmessage = hear; // late, where the class still gives it
      socket.close(1000);
    };
    silence(socket);
    socket.onclose = () => {
      clearTimeout(timer);
      resolve();
    };
    if (isAnswered()) {
      close();
      return;
    }
    timer = setTimeout(close, ANSWERS_MS);
    socket.onmessage = (event) => {
      hear(event);
      if (isAnswered()) close();
    };
  });
}

function silence(socket: SocketLike): void {
  socket.onmessage = socket.onclose = null;
  socket.onerror = () => {}; // ws throws an error that nobody hears
}
