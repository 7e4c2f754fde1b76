/** The fixtures, and what is compared with them: the wire as it is. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import WebSocket from "ws";
import type { Wire } from "./harness.js";

/** What a file of fixtures holds. */
export function fixture(file: string) {
  return JSON.parse(readFileSync(new URL(`../../fixtures/${file}.json`, import.meta.url), "utf8"));
}

/** The cases of a file that is a list of them. */
export function cases(file: string): Wire[] {
  return fixture(file);
}

/** A text, also one that is too long to be written down. */
export function textOf({ text, text_parts }: Wire): string {
  return (
    text ??
    text_parts.map((part: string | Wire) => (typeof part === "string" ? part : part.repeat.repeat(part.times))).join("")
  );
}

/** Everything on the wire, as it came and went. */
export class Taped extends WebSocket {
  static newest: Taped;
  readonly sent: Wire[] = [];
  readonly heard: Wire[] = [];
  #wake = () => {};
  #read = 0;

  constructor(url: string, protocols: string[]) {
    super(url, protocols);
    Taped.newest = this;
    this.on("message", (data) => {
      this.heard.push(JSON.parse(String(data)));
      // When the client has had it as well.
      setImmediate(() => this.#wake());
    });
  }

  /** Past the client. */
  sendRaw(text: string): void {
    super.send(text);
  }

  override send(text: string): void {
    this.sent.push(JSON.parse(text));
    super.send(text);
  }

  async next(): Promise<Wire> {
    while (this.#read === this.heard.length) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.heard[this.#read++] as Wire;
  }
}

/** Compares, and remembers what has a name. */
export class Matcher {
  readonly #known = new Map<string, unknown>([["run", Math.random().toString(36).slice(2)]]);

  /** A text with what is remembered put in. */
  fill(text: string): string {
    return text.replace(/\{\{(\w+)\}\}/g, (_, name) => String(this.#known.get(name)));
  }

  assertMatches(actual: unknown, expected: unknown, where = "message"): void {
    if (typeof expected === "string" && expected.startsWith("$")) this.#assertIs(actual, expected, where);
    else if (typeof expected !== "object" || expected === null) assert.strictEqual(actual, expected, where);
    else {
      assert(typeof actual === "object" && actual !== null, `${where}: ${actual}`);
      if (Array.isArray(expected)) assert.equal((actual as unknown[]).length, expected.length, where);
      for (const [name, value] of Object.entries(expected)) {
        if (name === "$absent") for (const absent of value) assert(!(absent in actual), `${where}.${absent}`);
        else this.assertMatches((actual as Wire)[name], value, `${where}.${name}`);
      }
    }
  }

  matches(actual: unknown, expected: unknown): boolean {
    try {
      this.assertMatches(actual, expected);
      return true;
    } catch {
      return false;
    }
  }

  #assertIs(actual: unknown, placeholder: string, where: string): void {
    const [, kind, name, plus] = placeholder.match(/^\$(\w+)(?::(\w+?)(?:\+(\d+))?)?$/) ?? [];
    const good = {
      any: actual !== undefined,
      string: typeof actual === "string",
      int: Number.isInteger(actual),
      number: typeof actual === "number",
      timestamp: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(`${actual}`),
      uuid4: /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(`${actual}`),
    }[kind as string];
    assert(good, `${where}: ${actual} is no ${placeholder}`);
    if (!name) return;
    if (plus) assert.equal(actual, (this.#known.get(name) as number) + Number(plus), `${where}: ${placeholder}`);
    else if (this.#known.has(name)) assert.equal(actual, this.#known.get(name), `${where}: ${placeholder}`);
    else this.#known.set(name, actual);
  }
}
