/** Events for a loop: a bounded buffer between the connection and `for await`. */
import type { ChannelEvent, Gap } from "./protocol.js";

interface Settings {
  channel: string;
  /** Events that wait, at most. */
  limit: number;
  /** Yield gaps too. */
  gaps: boolean;
  epoch(): string;
  /** The loop has come to a gap of the buffer's own. */
  overflowed(gap: Gap): void;
  /** The loop was left. */
  left(): void;
}

type Item = ChannelEvent | Gap;
type Waiter = { resolve(result: IteratorResult<Item>): void; reject(error: unknown): void };

const DONE: IteratorResult<Item> = { value: undefined, done: true };

export class EventStream implements AsyncIterableIterator<Item> {
  readonly channel: string;
  readonly #settings: Settings;
  readonly #items: Item[] = [];
  /** What was dropped in front of `#items`. */
  #lost: Gap | undefined;
  #waiters: Waiter[] = [];
  #ended = false;
  #error: Error | undefined;

  constructor(settings: Settings) {
    this.channel = settings.channel;
    this.#settings = settings;
  }

  /** Take an event. */
  readonly push = (item: Item): void => {
    const waiter = this.#waiters.shift();
    if (waiter) {
      waiter.resolve({ value: item, done: false });
      return;
    }
    this.#items.push(item);
    if (this.#items.length > this.#settings.limit) this.#lose(this.#items.shift() as Item);
  };

  pushGap(gap: Gap): void {
    if (this.#settings.gaps) this.push(gap);
  }

  /** No more will come; what waits is still given. With an error the loop throws it then. */
  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    for (const waiter of this.#waiters) this.#over(waiter);
    this.#waiters = [];
  }

  next(): Promise<IteratorResult<Item>> {
    return new Promise((resolve, reject) => {
      const item = this.#takeLost() ?? this.#items.shift();
      if (item) resolve({ value: item, done: false });
      else if (this.#ended) this.#over({ resolve, reject });
      else this.#waiters.push({ resolve, reject });
    });
  }

  /** The loop was left: unsubscribes. */
  return(): Promise<IteratorResult<Item>> {
    this.#items.length = 0;
    this.#lost = undefined;
    if (!this.#ended) this.#settings.left();
    this.end();
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #over({ resolve, reject }: Waiter): void {
    if (this.#error) reject(this.#error);
    else resolve(DONE);
    this.#error = undefined; // told once
  }

  /** Count what is dropped into the one gap that stands for it. */
  #lose(item: Item): void {
    const { seq = null } = item as Partial<ChannelEvent>;
    // A gap has all of these, an event none.
    const { from = seq, to = seq, count = 1, epoch = this.#settings.epoch() } = item as Partial<Gap>;
    this.#lost ??= { type: "gap", of: this.channel, epoch, from, to, count: 0, reason: "client_overflow" };
    const { count: before } = this.#lost;
    this.#lost.to = to;
    this.#lost.count = before === null || count === null ? null : before + count;
  }

  /** Tell of the loss; the gap, where the loop wants to see it. */
  #takeLost(): Gap | undefined {
    const lost = this.#lost;
    this.#lost = undefined;
    if (lost) this.#settings.overflowed(lost);
    return this.#settings.gaps ? lost : undefined;
  }
}
