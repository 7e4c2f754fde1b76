/** Is the server alive? It is while anything is heard of it, be it only its heartbeat. */

/** Life without a sign of the server beyond its heartbeat. */
const GRACE_MS = 15_000;

export class Liveness {
  readonly #arm: (ms: number, then: () => void) => void;
  readonly #tick: () => void;
  readonly #dead: () => void;
  #heardAt = 0;
  /** So long, in ms, is death. */
  #silence = 0;

  /** `arm` sets the connection's one timer; `tick` is called now and then, `dead` after too long a silence. */
  constructor(arm: (ms: number, then: () => void) => void, tick: () => void, dead: () => void) {
    this.#arm = arm;
    this.#tick = tick;
    this.#dead = dead;
  }

  heard(): void {
    this.#heardAt = performance.now();
  }

  /** The connection is open; the server says something every `heartbeat_s` seconds. */
  opened(heartbeat_s: number): void {
    this.#silence = (heartbeat_s > 0 ? heartbeat_s : 30) * 1000 + GRACE_MS;
    this.listen();
  }

  /** Wait for silence. */
  readonly listen = (): void => {
    const left = this.#heardAt + this.#silence - performance.now();
    this.#tick();
    if (left > 0) this.#arm(left, this.listen);
    else this.lastCall(1000);
  };

  /**
   * Anything heard within so many ms keeps the connection.
   *
   * A busy thread or a computer that slept runs the timer before it reads what has long been there, hence once more.
   */
  lastCall(ms: number): void {
    const since = this.#heardAt;
    this.#arm(ms, () => {
      if (this.#heardAt !== since) this.listen();
      else this.#dead();
    });
  }
}
