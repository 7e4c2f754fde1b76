/**
 * The errors, all of one parent:
 *
 *     NeurographError            code, channel
 *       ConnectionError          code (of the close), reason
 *       ClosedError
 *       RequestTimeoutError
 *       RequestRefusedError      code (the server's), index, retryAfter
 *       QueueFullError
 *       PublishUncertainError
 */
import { isRetryable } from "./codes.js";
import type { Message } from "./protocol.js";

/** `code` is the server's error code, a close code, or one of this client's own: a word as well. */
export class NeurographError extends Error {
  // Spelled out in each class, for a minifier renames classes.
  override name = "NeurographError";
  /** The channel that it is about, if it is about one. */
  declare channel?: string;

  constructor(
    readonly code: string | number,
    message: string,
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
  }
}

/** A page is not told what it was. */
const ADVICE = ": is the router running there, is the path right (/ws), are you let in?";

/** There is no connection: it failed, was lost, or was never asked for. `code` is the close code. */
export class ConnectionError extends NeurographError {
  override name = "ConnectionError";
  declare readonly code: number;

  /** With the address, of an attempt to connect there. */
  constructor(
    code: number,
    readonly reason: string,
    cause?: unknown,
    address?: string,
  ) {
    const what = address ? `no connection to ${address}` : "connection closed";
    const advice = address && code === 1006 && !cause ? ADVICE : "";
    super(code, `${what}: ${code}${reason && ` ${reason}`}${advice}`, cause);
  }
}

/** `disconnect()` was called, or the client has stopped for good. */
export class ClosedError extends NeurographError {
  override name = "ClosedError";

  constructor() {
    super("client_closed", "the client is closed: make a new one");
  }
}

/** No reply within `requestTimeout`. */
export class RequestTimeoutError extends NeurographError {
  override name = "RequestTimeoutError";
}

/** The server said no. */
export class RequestRefusedError extends NeurographError {
  override name = "RequestRefusedError";
  declare readonly code: string;
  /** Which event of a batch, from 0. */
  declare readonly index: number | undefined;
  /** Seconds after which it may be asked again. */
  declare readonly retryAfter: number | undefined;
  /** The epoch in force, with `history_unavailable`. */
  declare readonly epoch: string | undefined;

  constructor(code: string, message: string, reply: Partial<Message> = {}) {
    super(code, message);
    this.index = reply.index;
    this.retryAfter = reply.retry_after;
    this.epoch = reply.epoch;
  }

  /** The same message may succeed later, with nothing else changed. */
  get retryable(): boolean {
    return isRetryable(this.code);
  }
}

/** What waits for the server is at its bound. */
export class QueueFullError extends NeurographError {
  override name = "QueueFullError";
}

/** It was sent, and nobody knows whether it arrived. */
export class PublishUncertainError extends NeurographError {
  override name = "PublishUncertainError";
}
