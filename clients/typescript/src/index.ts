/** A WebSocket client for the Neurograph router. */
export { NeurographWSClient, NeurographWSClient as default, type NewEvent } from "./client.js";
export * from "./errors.js";
export type * from "./options.js";
export type { Pending } from "./pending.js";
export * from "./protocol.js";
