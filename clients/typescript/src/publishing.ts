/**
 * What is published and not yet answered, in a bounded queue.
 *
 * Each publish has a key, so that to send it again after a reconnection makes no duplicate. It stays here until
 * `published` or its refusal comes, or nobody can know any more what became of it.
 */
import { PublishUncertainError, QueueFullError, RequestRefusedError } from "./errors.js";
import { type Deferred, defer, type Pending } from "./pending.js";
import type { Message, Published } from "./protocol.js";

const QUEUE_LENGTH = 1000;
/** In characters of JSON. */
const QUEUE_SIZE = 1024 * 1024;
/** The server keeps a key for 120 s; a repetition takes its time to get there. */
const KEY_LIFE_MS = 115_000;

/** When, and under which epoch: what the server may know a key from. */
interface Sent {
  at: number;
  epoch: string;
}

interface Publish {
  id: string;
  text: string;
  deferred: Deferred<Published>;
  /** On this connection, and not answered. */
  sent: Sent | undefined;
  /** First, on an earlier connection that ended before the answer: it may have been published. */
  before: Sent | undefined;
}

interface Hooks {
  /** Throws where the message cannot be sent. */
  send(text: string): void;
  isOpen(): boolean;
  epoch(): string;
  report(error: unknown): void;
}

export class Publishing {
  readonly #hooks: Hooks;
  /** By id, in the order in which they were published. */
  readonly #queue = new Map<string, Publish>();
  /** Those that are not on the wire, in the same order. */
  #unsent: Publish[] = [];
  #size = 0;
  #onWire = 0;
  /** Between `rate_limited` and its `retry_after`. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** After `rate_limited` only one is on the wire, as one behind it might pass where it did not. */
  #window = QUEUE_LENGTH;
  readonly #keys = Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2);

  constructor(hooks: Hooks) {
    this.#hooks = hooks;
  }

  get length(): number {
    return this.#queue.size;
  }

  /** Whatever was sent on this connection. */
  isAnswered(): boolean {
    return !this.#onWire;
  }

  /** Take a publish, and send it if that is possible now. `what` makes the rest of its message. */
  add(id: string, key: string | undefined, what: () => object): Pending<Published> {
    const deferred = defer<Published>(this.#hooks.report);
    try {
      const message = { type: "publish", id, key: key ?? `${this.#keys}-${id}`, ...what() };
      const text = JSON.stringify(message, finite);
      if (this.#queue.size >= QUEUE_LENGTH || this.#size + text.length > QUEUE_SIZE) {
        throw new QueueFullError(
          "queue_full",
          `${this.#queue.size} publishes (${this.#size} characters) wait for the server, at most ${QUEUE_LENGTH} ` +
            `(${QUEUE_SIZE}): await some of them first`,
        );
      }
      const publish = { id, text, deferred, sent: undefined, before: undefined };
      this.#queue.set(id, publish);
      this.#size += text.length;
      this.#unsent.push(publish);
      this.flush();
    } catch (error) {
      deferred.reject(error);
    }
    return deferred.promise;
  }

  /** Send what may be sent. */
  flush(): void {
    while (this.#unsent.length && this.#hooks.isOpen() && !this.#timer && this.#onWire < this.#window) {
      const publish = this.#unsent.shift() as Publish;
      const epoch = this.#hooks.epoch();
      try {
        if (isForgotten(publish.before, epoch)) throw uncertain();
        publish.sent = { at: performance.now(), epoch };
        this.#onWire++;
        this.#hooks.send(publish.text);
      } catch (error) {
        this.#settle(publish).reject(error);
      }
    }
  }

  /** `published`, or the error to a publish; false where it is neither. */
  message(message: Message): boolean {
    const publish = this.#queue.get(message.id as string);
    if (!publish) return false;
    if (message.type === "published") this.#settle(publish).resolve(message as unknown as Published);
    else if (message.code === "rate_limited" && message.retry_after >= 0) this.#later(publish, message);
    else this.#settle(publish).reject(new RequestRefusedError(message.code, message.message, message));
    this.flush();
    return true;
  }

  /** A connection: all that is not answered goes out again, unless that might publish it twice. */
  connected(): void {
    this.#reset();
    this.flush();
  }

  /** Nothing is on the wire any more. */
  #reset(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#window = QUEUE_LENGTH;
    this.#onWire = 0;
    this.#unsent = [...this.#queue.values()];
    for (const publish of this.#unsent) {
      publish.before ??= publish.sent;
      publish.sent = undefined;
    }
  }

  /** Give up those whose keys the server may have forgotten. */
  expire(): void {
    for (const publish of this.#queue.values()) {
      if (isForgotten(publish.before ?? publish.sent)) this.#settle(publish).reject(uncertain());
    }
  }

  /** The client has ended: what was not sent fails with `error`. */
  close(error: Error): void {
    this.#reset();
    for (const publish of this.#queue.values()) {
      this.#settle(publish).reject(publish.before ? uncertain(error) : error);
    }
  }

  #later(publish: Publish, message: Message): void {
    publish.sent = undefined; // refused, so on this connection it was not published
    this.#onWire--;
    this.#window = 1;
    this.#unsent = [...this.#queue.values()].filter((one) => !one.sent);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.flush();
    }, message.retry_after * 1000);
  }

  /** It is over, one way or the other. */
  #settle(publish: Publish): Deferred<Published> {
    this.#queue.delete(publish.id);
    this.#size -= publish.text.length;
    if (publish.sent) this.#onWire--;
    else this.#unsent = this.#unsent.filter((one) => one !== publish);
    return publish.deferred;
  }
}

/** The server may know no longer what was sent then: by now, or because it has another epoch. */
function isForgotten(sent: Sent | undefined, epoch = sent?.epoch): boolean {
  return sent !== undefined && (sent.at <= performance.now() - KEY_LIFE_MS || sent.epoch !== epoch);
}

/** For JSON, which would make null of them. */
function finite(field: string, value: unknown): unknown {
  if (typeof value !== "number" || Number.isFinite(value)) return value;
  throw new TypeError(`${field}: ${value} is not a number in JSON: leave it out, or say null`);
}

function uncertain(cause?: unknown): PublishUncertainError {
  return new PublishUncertainError(
    "uncertain",
    "it may or may not have been published: no answer came while the server knew its key. Look in the history before " +
      "publishing it again",
    cause,
  );
}
