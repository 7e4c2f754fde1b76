/** What a client does about a close code. By range, so that a code never seen before is met. */

export type Verdict = "yes" | "no" | "fresh_token";

/** Whether to come back after this close code: never, always, or only with a fresh token. */
export function reconnectAfter(code: number): Verdict {
  if (code === 1008 || code === 4002) return "fresh_token";
  if ([1000, 1002, 1003, 1007, 1009].includes(code) || (code >= 4500 && code < 5000)) return "no";
  return "yes";
}

/** Whether the same message may succeed later, with nothing else changed. */
export function isRetryable(code: string | number): boolean {
  return ["rate_limited", "engine_unavailable", "internal"].includes(code as string);
}
