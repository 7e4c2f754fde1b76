/** How long to wait before the next attempt: full jitter, so that many clients do not come back at once. */

/** A connection that did not last so long counts as a failure. */
export const STABLE_MS = 60_000;

const BASE_MS = 500;
const LIMIT_MS = 20_000;

/** The delay in ms after so many failures in a row; `random` gives a number from 0 to 1. */
export function backoff(failures: number, random: () => number = Math.random): number {
  return random() * Math.min(LIMIT_MS, BASE_MS * 2 ** failures);
}
