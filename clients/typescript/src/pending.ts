/** A promise that may be ignored: its failure is then reported, and is no unhandled rejection. */

/** Like any promise. If it fails before somebody awaits it, `report` is told as well. */
export class Pending<T> extends Promise<T> {
  #awaited = false;

  // What `then` makes are plain promises: they have an owner.
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  // biome-ignore lint/suspicious/noThenProperty: this is the one thing the class is for
  override then<A = T, B = never>(
    done?: ((value: T) => A | PromiseLike<A>) | null,
    failed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#awaited = true;
    return super.then(done, failed);
  }

  /** Tell `report` of a failure that nobody waits for. @internal */
  reportingTo(report: (error: unknown) => void): this {
    // `await` calls `then` one step after its expression, so a failure known by now is looked at two steps later.
    super.then(undefined, (error) => Promise.resolve().then(() => this.#awaited || report(error)));
    return this;
  }
}

/** A promise and its two ends. */
export interface Deferred<T> {
  promise: Pending<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** A promise to be settled from elsewhere. */
export function defer<T>(report: (error: unknown) => void): Deferred<T> {
  const deferred = {} as Deferred<T>;
  deferred.promise = new Pending<T>((resolve, reject) => {
    deferred.resolve = resolve;
    deferred.reject = reject;
  }).reportingTo(report);
  return deferred;
}
