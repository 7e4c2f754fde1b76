/**
 * The errors, all of one parent:
 *
 *     NeurographError            code, channel
 *       ConnectionError          code (of the close), reason
 *       ClientClosedError
 *       RequestTimeoutError
 *       RequestRefusedError      code (the server's), index, retryAfter
 *       QueueFullError
 *       UncertainPublishError
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

/** There is no connection: it failed, was lost, or was never asked for. `code` is the close code. */
export class ConnectionError extends NeurographError {
  override name = "ConnectionError";

  constructor(
    override readonly code: number,
    readonly reason: string,
    cause?: unknown,
  ) {
    super(code, `connection closed: ${code}${reason && ` ${reason}`}`, cause);
  }
}

/** `disconnect()` was called, or the client has stopped for good. */
export class ClientClosedError extends NeurographError {
  override name = "ClientClosedError";

  constructor(cause?: unknown) {
    super("client_closed", "the client is closed: make a new one to connect again", cause);
  }
}

/** No reply within `requestTimeout`. */
export class RequestTimeoutError extends NeurographError {
  override name = "RequestTimeoutError";
}

/** The server said no. */
export class RequestRefusedError extends NeurographError {
  override name = "RequestRefusedError";
  /** Which event of a batch, from 0. */
  readonly index: number | undefined;
  /** Seconds after which it may be asked again. */
  readonly retryAfter: number | undefined;
  /** The epoch in force, with `history_unavailable`. */
  readonly epoch: string | undefined;

  constructor(
    override readonly code: string,
    message: string,
    reply: Partial<Message> = {},
  ) {
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
export class UncertainPublishError extends NeurographError {
  override name = "UncertainPublishError";
}
