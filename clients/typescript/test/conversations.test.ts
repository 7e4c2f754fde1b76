/** The contract's dialogues, held by the client with the real router: what is said, and what its user gets. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NeurographError, type NeurographWSClient, RequestRefusedError } from "../src/index.js";
import { settle, type Wire } from "./harness.js";
import { connectTo, DEADLINE, once, shared } from "./live.js";
import { cases, Matcher, Taped, textOf } from "./wire.js";

/** What this client's calls can say, and with which fields. Everything else goes out past the client. */
const FIELDS: Record<string, string[]> = {
  subscribe: ["channels", "filter", "policy", "key", "recover", "last", "since"],
  unsubscribe: ["channels"],
  publish: ["channel", "event_type", "data", "events", "key"],
  history: ["channel", "after", "last", "since", "limit"],
  authenticate: ["token"],
  get_subscriptions: [],
  ping: [],
};

/** Channels with events of their own. */
const NOISY = ["metrics", "logs", "status", "connections"];

const router = shared({ metrics_interval_s: 1 });

/** One dialogue. */
class Dialogue {
  readonly #client: NeurographWSClient;
  readonly #tape: Taped;
  readonly #matcher = new Matcher();
  /** What the dialogue calls the client's messages; undefined where it gave them no id. */
  readonly #ids = new Map<unknown, unknown>();
  readonly #outcomes = new Map<unknown, Promise<unknown>>();
  /** What handlers were given, and what came on channels that were subscribed then. */
  readonly #given: Wire[] = [];
  readonly #wanted: Wire[] = [];
  readonly #take = (event: Wire) => this.#given.push(event);
  readonly #gaps: Wire[] = [];
  readonly #errors: unknown[] = [];

  constructor(client: NeurographWSClient) {
    this.#client = client;
    this.#tape = Taped.newest;
    client.on("error", (error) => this.#errors.push(error));
    client.on("gap", (gap) => this.#gaps.push(gap));
    this.#tape.on("message", () => {
      const message = this.#tape.heard.at(-1) as Wire;
      if (!message.type && client.getSubscriptions().includes(message.channel)) this.#wanted.push(message);
    });
  }

  async step({ send, send_parts, times = 1, expect, expect_unordered, expect_close }: Wire): Promise<void> {
    for (let n = 0; n < times; n++) {
      if (send) await this.#sendText(this.#matcher.fill(send));
      if (send_parts) await this.#sendText(textOf({ text_parts: send_parts }));
      if (expect_close) assert.deepEqual((await once(this.#client, "disconnected")).code, expect_close);
      if (expect) this.#matcher.assertMatches(await this.#next([expect]), expect);
      if (expect_unordered) await this.#unordered(expect_unordered);
    }
  }

  async #unordered(all: (Wire | Wire[])[]): Promise<void> {
    const runs = all.map((one) => (Array.isArray(one) ? [...one] : [one]));
    for (let left = runs.flat().length; left > 0; left--) {
      const message = await this.#next(runs.flat());
      const run = runs.find(([first]) => first && this.#matcher.matches(message, first));
      assert(run, `not expected: ${JSON.stringify(message)}`);
      run.shift();
    }
  }

  /** The next message that the dialogue speaks of, by the ids that it gave. */
  async #next(expected: Wire[]): Promise<Wire> {
    for (;;) {
      const message = { ...(await this.#tape.next()) };
      if (
        !message.type &&
        NOISY.includes(message.channel) &&
        !expected.some(({ channel }) => channel === message.channel)
      )
        continue;
      if (message.id === undefined) return message;
      const id = this.#ids.get(message.id);
      // This client always wants to know what became of a publish.
      if (message.type === "published" && id === undefined) continue;
      if (id === undefined) delete message.id;
      else message.id = id;
      return message;
    }
  }

  async #sendText(text: string): Promise<void> {
    const message = parsed(text);
    if (message && this.#isSayable(message)) await this.#say(message);
    else {
      this.#tape.sendRaw(text);
      this.#ids.set(message?.id, message?.id);
    }
  }

  #isSayable({ id, type, ...rest }: Wire): boolean {
    const { channels } = rest;
    if (!FIELDS[type] || !isId(id)) return false;
    if (Object.keys(rest).some((field) => !FIELDS[type]?.includes(field))) return false;
    if (channels === undefined) return true;
    if (!Array.isArray(channels) || channels.length === 0) return false;
    // What is no name, is named twice, comes unasked or is not there to be left.
    const known = this.#client.getSubscriptions();
    return channels.every((name, at) => {
      if (typeof name !== "string" || channels.indexOf(name) !== at || /^(personal|global)$/.test(name)) return false;
      return type === "subscribe" || known.includes(name);
    });
  }

  /** Say it by the client's own calls, and check that it is what went out. */
  async #say({ id, ...message }: Wire): Promise<void> {
    const before = this.#tape.sent.length;
    const outcome = this.#call(message);
    outcome?.catch(() => {});
    await settle();
    const sent = this.#tape.sent.slice(before);
    assert.equal(sent.length, 1, `for ${JSON.stringify(message)} it said ${JSON.stringify(sent)}`);
    const { id: own, key, ...said } = sent[0] as Wire;
    if (message.type === "publish" && !message.events) message.data ??= {};
    if (said.recover && !message.recover) {
      // It has a position already, and says so; to who is subscribed no past is sent anyway.
      for (const past of ["recover", "last", "since"]) delete said[past];
      delete message.last;
    }
    assert.deepEqual(message.key || said.type !== "publish" ? { ...said, ...(key && { key }) } : said, message);
    this.#ids.set(own, id);
    if (outcome) this.#outcomes.set(own, outcome);
  }

  #call(message: Wire): Promise<unknown> | undefined {
    const client = this.#client;
    const { type, channel, channels, event_type, data, events, key, token, ...options } = message;
    switch (type) {
      case "subscribe":
        client.subscribeMultiple(channels, this.#take, key ? { ...options, key } : options);
        return undefined;
      case "unsubscribe":
        for (const name of channels) client.unsubscribe(name);
        return undefined;
      case "publish":
        return events ? client.publishBatch(channel, events, key) : client.publish(channel, event_type, data, key);
      case "history":
        return client.history(channel, options);
      case "authenticate":
        return client.authenticate(token);
      case "get_subscriptions":
        return client.fetchSubscriptions();
      case "ping":
        return client.ping();
    }
    throw new Error(`no call says ${type}`);
  }

  /** What the server said is what the user got. */
  async finish(): Promise<void> {
    const heard = this.#tape.heard;
    assert.deepEqual(this.#given, this.#wanted);
    assert.deepEqual(
      this.#gaps,
      heard.filter(({ type }) => type === "gap"),
    );
    const replies = new Map(heard.filter(({ id }) => id !== undefined).map((reply) => [reply.id, reply]));
    for (const [id, outcome] of this.#outcomes) {
      const reply = replies.get(id);
      if (!reply) continue; // the dialogue does not wait for it
      if (reply.type === "error") {
        const refused = (error: unknown) => error instanceof RequestRefusedError && error.code === reply.code;
        await assert.rejects(outcome, refused);
        await assert.rejects(outcome, { index: reply.index, message: reply.message, retryAfter: reply.retry_after });
      } else if (reply.type === "pong") assert.equal(typeof (await outcome), "number");
      else assert.deepEqual(await outcome, reply.type === "subscriptions" ? reply.channels : reply);
    }
    const denied = heard.flatMap(({ denied = [], reasons }) => denied.map((name: string) => [reasons[name], name]));
    const refused = heard.filter(({ type, id }) => type === "error" && !this.#outcomes.has(id));
    assert.deepEqual(
      this.#errors.map((error) => (error instanceof NeurographError ? error.code : error)).sort(),
      [...denied.map(([code]) => code), ...refused.map(({ code }) => code)].sort(),
    );
  }
}

function isId(id: unknown): boolean {
  return id === undefined || (typeof id === "string" ? id.length <= 64 : Number.isSafeInteger(id));
}

function parsed(text: string): Wire | undefined {
  try {
    const message = JSON.parse(text);
    return typeof message === "object" && !Array.isArray(message) ? message : undefined;
  } catch {
    return undefined;
  }
}

for (const { name, steps } of cases("conversations")) {
  test(name, DEADLINE, async (t) => {
    const client = connectTo(t, router.url, { webSocket: Taped });
    await client.connect();
    const dialogue = new Dialogue(client);
    for (const step of steps) await dialogue.step(step);
    await dialogue.finish();
  });
}
