/**
 * Subscriptions: who wants which channel and how, where its stream stands, and what the server has been told of it.
 *
 * What is wanted changes by plain calls at any time. `sync` tells the server the difference, in as few messages as the
 * options allow, whenever something is sent.
 */
import { handlerFailed, run } from "./emitter.js";
import { NeurographError } from "./errors.js";
import type { SubscribeOptions } from "./options.js";
import type { ChannelEvent, Connected, Gap, Message, Positions } from "./protocol.js";

// biome-ignore lint/suspicious/noExplicitAny: a handler of one channel is kept among those of all
export type AnyHandler = (event: any) => unknown;

/** What the server has been told of a subscription; while it is asked, the id of the newest message that does so. */
type Told = "nothing" | "granted" | "denied" | (string & {});

interface Subscription {
  handlers: readonly AnyHandler[];
  /** The options that were given, and with which handler; the newest last. */
  given: Map<AnyHandler | undefined, SubscribeOptions>;
  /** The newest of them. */
  options: SubscribeOptions;
  /** The last event that was worked on, or where the server said the stream begins. */
  position: { epoch: string; seq: number } | undefined;
  told: Told;
}

interface Hooks {
  /** Send with an id, which is returned. Throws where it cannot be sent. */
  ask(message: Record<string, unknown>): string;
  isOpen(): boolean;
  epoch(): string;
  report(error: unknown): void;
}

export class Subscriptions {
  readonly #hooks: Hooks;
  readonly #channels = new Map<string, Subscription>();
  /** To be unsubscribed. */
  #dropped = new Set<string>();
  /** Being unsubscribed, by which message: what still comes of these channels is not for those who want them anew. */
  readonly #leaving = new Map<string, string>();
  /** Messages on their way, by id: to subscribe to these channels, or to unsubscribe. */
  readonly #asked = new Map<string, { channels: string[]; type: string }>();
  /** After an error with `retry_after`. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Something is to be told to the server. */
  #changed = false;

  constructor(hooks: Hooks) {
    this.#hooks = hooks;
  }

  names(): string[] {
    return [...this.#channels.keys()];
  }

  positions(): Positions {
    const known: Positions = {};
    for (const [name, { position }] of this.#channels) if (position) known[name] = { ...position };
    return known;
  }

  // --- what is wanted ---

  add(channels: readonly string[], handler: AnyHandler | undefined, given: SubscribeOptions | undefined): void {
    // A copy, so that what cannot be sent fails here, and later changes to the object change nothing.
    const options = given && (JSON.parse(JSON.stringify(given)) as SubscribeOptions);
    if (handler && typeof handler !== "function") throw new TypeError(`handler: not a function but ${typeof handler}`);
    for (const name of channels) {
      if (typeof name !== "string") throw new TypeError(`channel: not a string but ${typeof name}`);
      let one = this.#channels.get(name);
      if (!one) {
        one = { handlers: [], given: new Map(), options: {}, position: undefined, told: "nothing" };
        this.#channels.set(name, one);
        // The past is only sent to those who were not subscribed.
        if (!(options?.recover || options?.last || options?.since)) this.#dropped.delete(name);
        // As if that much had been received: from then on a recovery is like any other.
        one.position = options?.recover?.[name];
      } else if (options || one.told === "denied") one.told = "nothing";
      if (options) {
        one.options = options;
        one.given.delete(handler); // it is the newest now
        one.given.set(handler, options);
      }
      if (handler && !one.handlers.includes(handler)) one.handlers = [...one.handlers, handler];
      this.#change();
    }
  }

  /** Without a handler: all of them. With the last one the channel goes. */
  remove(channel: string, handler?: AnyHandler): void {
    const one = this.#channels.get(channel);
    if (!one || (handler && !one.handlers.includes(handler))) return;
    one.handlers = handler ? one.handlers.filter((other) => other !== handler) : [];
    if (!one.handlers.length) {
      this.#channels.delete(channel);
      this.#dropped.add(channel);
      this.#change();
    } else if (one.given.delete(handler)) {
      // Those who stay get again what they asked for.
      const options = [...one.given.values()].at(-1) ?? {};
      if (standing(options) !== standing(one.options)) {
        one.told = "nothing";
        this.#change();
      }
      one.options = options;
    }
  }

  /** Calls of one turn become one message, unless something else is sent first. */
  #change(): void {
    if (!this.#changed) queueMicrotask(() => this.sync());
    this.#changed = true;
  }

  // --- what the server is told ---

  /** Tell the server what has changed. */
  sync(): void {
    if (!this.#changed || !this.#hooks.isOpen()) return;
    this.#changed = false;
    const dropped = [...this.#dropped];
    this.#dropped.clear();
    if (dropped.length) this.#send("unsubscribe", dropped, {});
    const groups = new Map<string, string[]>();
    for (const [name, one] of this.#channels) {
      if (one.told !== "nothing" || name === "personal" || name === "global") continue;
      one.told = "asked"; // by a message that is yet to be sent
      const { last, since } = one.options;
      const options = standing(one.options, one.position ? {} : { last, since });
      groups.set(options, [...(groups.get(options) ?? []), name]);
    }
    for (const [options, names] of groups) this.#send("subscribe", names, JSON.parse(options));
  }

  /** In one message, or in as many as the server's limit makes of it. */
  #send(type: string, channels: string[], options: object): void {
    const recover: Positions = {};
    for (const name of type === "subscribe" ? channels : []) {
      const position = this.#channels.get(name)?.position;
      if (position) recover[name] = position;
    }
    const message = { type, channels, ...options, recover: Object.keys(recover).length ? recover : undefined };
    try {
      const id = this.#hooks.ask(message);
      this.#asked.set(id, { channels, type });
      for (const name of channels) {
        const one = this.#channels.get(name);
        if (type === "unsubscribe") this.#leaving.set(name, id);
        else if (one) one.told = id;
      }
    } catch (cause) {
      const error = cause as NeurographError;
      const half = channels.length >> 1;
      if (half && error.code === "payload_too_large") {
        this.#send(type, channels.slice(0, half), options);
        this.#send(type, channels.slice(half), options);
      } else for (const name of channels) this.#refuse(name, error.code, error.message);
    }
  }

  /** A connection: a session that was taken up still has what was granted, and no other has `channels`. */
  connected(message: Connected): void {
    const { channels = [], positions = {} } = message;
    this.close();
    this.#dropped = new Set(channels.filter((name) => this.#dropped.has(name) || !this.#channels.has(name)));
    for (const [name, one] of this.#channels) {
      if (positions[name] && !this.#dropped.has(name)) one.position ??= { ...positions[name] };
      if (!(one.told === "granted" && channels.includes(name))) one.told = "nothing";
    }
    this.#deny(message);
    this.#changed = true;
  }

  /** Nothing is on its way any more. */
  close(): void {
    clearTimeout(this.#timer);
    this.#asked.clear();
    this.#leaving.clear();
  }

  /** Ask again for what was denied: who we are has changed. */
  askAgain(): void {
    for (const one of this.#channels.values()) if (one.told === "denied") one.told = "nothing";
    this.#changed = true;
    this.sync();
  }

  // --- what the server says ---

  /** `subscribed`, `unsubscribed`, `position`, or the error to one of our messages; false where it is none of these. */
  message(message: Message): boolean {
    const id = message.id as string;
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    for (const name of asked?.channels ?? []) if (this.#leaving.get(name) === id) this.#leaving.delete(name);
    switch (message.type) {
      case "subscribed":
        for (const [name, position] of Object.entries(message.positions as Positions)) {
          const one = this.#channels.get(name);
          if (!one) continue;
          one.position ??= { ...position };
          if (one.told === id) one.told = "granted";
        }
        this.#deny(message, id);
        return true;
      case "unsubscribed":
        if (message.reason) for (const name of message.channels) this.#refuse(name, message.reason);
        return true;
      case "position":
        for (const [name, position] of Object.entries(message.positions as Positions)) {
          const one = this.#heard(name);
          if (one) one.position = { ...position };
        }
        return true;
      case "error":
        if (!asked) return false;
        if (message.retry_after !== undefined) this.#later(id, asked, message.retry_after);
        else for (const name of asked.channels) this.#refuse(name, message.code, message.message, id);
        return true;
    }
    return false;
  }

  #later(id: string, { channels, type }: { channels: string[]; type: string }, seconds: number): void {
    for (const name of channels) {
      const one = this.#channels.get(name);
      if (!one && type === "unsubscribe") this.#dropped.add(name);
      else if (one?.told === id) one.told = "nothing";
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#changed = true;
      this.sync();
    }, seconds * 1000);
  }

  #deny({ denied = [], reasons = {} }: Partial<Message>, id?: string): void {
    for (const name of denied) this.#refuse(name, reasons[name] ?? "permission_denied", undefined, id);
  }

  /** Not this channel: in answer to the message with this id, or whatever has been asked. */
  #refuse(name: string, code: string | number, message: unknown = code, id?: string): void {
    const one = this.#channels.get(name);
    if (one && (!id || one.told === id)) one.told = "denied";
    const error = new NeurographError(code, `no subscription to ${name}: ${message}`);
    error.channel = name;
    this.#hooks.report(error);
  }

  // --- the stream ---

  /** The subscription that hears of this channel now. */
  #heard(name: string): Subscription | undefined {
    return this.#leaving.has(name) ? undefined : this.#channels.get(name);
  }

  /** Give an event to its handlers. This is the path that has to be short. */
  event(event: ChannelEvent): void {
    const { channel, seq } = event;
    const one = this.#heard(channel);
    if (!one) {
      if (typeof channel !== "string") throw new TypeError("neither `type` nor `channel`");
      return;
    }
    let { position } = one;
    if (seq !== undefined) {
      if (typeof seq !== "number") throw new TypeError("seq is not a number");
      if (!position) position = one.position = { epoch: this.#hooks.epoch(), seq: -1 };
      else if (seq <= position.seq) return; // a repetition
    }
    for (const handler of one.handlers) run(handler, event, this.#failed);
    if (seq !== undefined && position) position.seq = seq;
  }

  gap({ of, epoch, to }: Gap): void {
    const one = this.#heard(of);
    if (one && typeof to === "number") one.position = { epoch, seq: to };
  }

  readonly #failed = (cause: unknown, { channel }: ChannelEvent): void => {
    this.#hooks.report(handlerFailed(cause, channel, channel));
  };
}

/** The options as they are sent: those that hold while the subscription does, and `more`. */
function standing({ filter, policy, key }: SubscribeOptions, more: object = {}): string {
  return JSON.stringify({ filter, policy, key, ...more });
}
