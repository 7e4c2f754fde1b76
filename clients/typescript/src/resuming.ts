/** Taking up a session: the server is told where to go on, and counts as going on once it has said `resumed`. */
import type { Message, Positions } from "./protocol.js";

/** Of the one `resume` of a connection; the other ids are numbers. */
export const RESUME = "resume";

/** Many times what a server replays: one that sends more and no `resumed` is taken at its word. */
export const MAX_HELD = 20_000;

/** The message that says where to go on. */
export function resumeFrom(positions: Positions): string {
  return JSON.stringify({ type: RESUME, id: RESUME, positions });
}

/** It is of the channels, so it counts only behind `resumed`: where resuming fails, it stands behind a hole. */
export function isHeld({ type }: Partial<Message>): boolean {
  return [undefined, "gap", "position"].includes(type);
}
