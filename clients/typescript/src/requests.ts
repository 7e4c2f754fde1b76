/** Requests that wait for their reply: each has an id, a time limit and one outcome. */
import { RequestRefusedError, RequestTimeoutError } from "./errors.js";
import { defer, type Pending } from "./pending.js";
import type { Message } from "./protocol.js";

interface Waiting {
  /** Settle with a reply, or with what is made of it. */
  heard(reply: Message): void;
  reject(error: unknown): void;
  timer: ReturnType<typeof setTimeout>;
}

export class Requests {
  readonly #waiting = new Map<string, Waiting>();
  readonly #timeout: number;
  readonly #report: (error: unknown) => void;

  /** `timeout` in ms. */
  constructor(timeout: number, report: (error: unknown) => void) {
    this.#timeout = timeout;
    this.#report = report;
  }

  /** `send` sends the message and returns its id; what it throws is the outcome. `result` is what a reply comes to. */
  ask<T>(type: string, send: () => string, result: (reply: Message) => T): Pending<T> {
    const { promise, resolve, reject } = defer<T>(this.#report);
    try {
      const id = send();
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new RequestTimeoutError("timeout", `no reply to ${type} within ${this.#timeout} ms`));
      }, this.#timeout);
      this.#waiting.set(id, { heard: (reply) => resolve(result(reply)), reject, timer });
    } catch (error) {
      reject(error);
    }
    return promise;
  }

  /** False where nobody waits for this reply. */
  reply(message: Message): boolean {
    const waiting = this.#waiting.get(message.id as string);
    if (!waiting) return false;
    this.#waiting.delete(message.id as string);
    clearTimeout(waiting.timer);
    if (message.type !== "error") waiting.heard(message);
    else waiting.reject(new RequestRefusedError(message.code, message.message, message));
    return true;
  }

  /** There is no connection: no reply can come any more. */
  fail(error: unknown): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#waiting.clear();
  }
}
