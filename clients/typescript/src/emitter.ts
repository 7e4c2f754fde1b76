/** Callbacks by name, and calls that cannot do harm. */
import { NeurographError } from "./errors.js";
import type { ClientEvents } from "./options.js";

const NAMES = "connected disconnected error pong gap reconnecting token_expiring goodbye".split(" ");

type Callback<N extends keyof ClientEvents> = (payload: ClientEvents[N]) => unknown;

/** Who listens to what the client tells. */
export class Emitter {
  readonly #callbacks = new Map<string, readonly ((payload: never) => unknown)[]>(NAMES.map((name) => [name, []]));

  on<N extends keyof ClientEvents>(name: N, callback: Callback<N>): void {
    if (typeof callback !== "function") throw new TypeError(`callback: not a function but ${typeof callback}`);
    this.#callbacks.set(name, [...this.#of(name), callback]);
  }

  off<N extends keyof ClientEvents>(name: N, callback?: Callback<N>): void {
    this.#callbacks.set(
      name,
      this.#of(name).filter((one) => callback && one !== callback),
    );
  }

  readonly emit = <N extends keyof ClientEvents>(name: N, payload: ClientEvents[N]): void => {
    for (const callback of this.#of(name)) this.call(name, callback as Callback<N>, payload);
  };

  call<N extends keyof ClientEvents>(name: N, callback: Callback<N>, payload: ClientEvents[N]): void {
    // Where the callback for errors fails, nobody is left to be told but the console.
    run(callback, payload, (cause) =>
      name === "error" ? console.error(cause) : this.report(handlerFailed(cause, `on("${name}")`)),
    );
  }

  /** Tell of an error that nobody awaits. */
  readonly report = (error: unknown): void => {
    if (this.#of("error").length) this.emit("error", error as NeurographError);
    else console.error(error);
  };

  #of(name: string) {
    const callbacks = this.#callbacks.get(name);
    if (!callbacks) throw new RangeError(`no event is called "${name}"; there are ${NAMES.join(", ")}`);
    return callbacks;
  }
}

/** Call it; `failed` hears of what it throws, and of what its promise is rejected with. */
export function run<P>(
  callback: (payload: P) => unknown,
  payload: P,
  failed: (cause: unknown, payload: P) => void,
): void {
  try {
    const result = callback(payload);
    if (result instanceof Promise) result.catch((cause) => failed(cause, payload));
  } catch (cause) {
    failed(cause, payload);
  }
}

/** The error for a user's function that threw. */
export function handlerFailed(cause: unknown, which: string, channel?: string): NeurographError {
  const error = new NeurographError("handler_failed", `the handler of ${which} failed: ${cause}`, cause);
  if (channel !== undefined) error.channel = channel;
  return error;
}
