/** What the real router refuses, as the contract's cases have it, and what the client's user gets to know of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { NeurographError, RequestRefusedError } from "../src/index.js";
import type { Wire } from "./harness.js";
import { connectTo, DEADLINE, KEY, once, shared, tokenFor } from "./live.js";
import { cases, fixture, Matcher, Taped, textOf } from "./wire.js";

const { channels: CHANNELS, table, claims, cases: MESSAGES } = fixture("permissions");

const router = shared();
/** It takes messages so large that an event in one may be too large. */
const wide = shared({ max_message_bytes: 131_072 });
const guarded = shared({ jwt_keys: KEY });

const tokenOf = ({ role, ...rest }: Wire) => (role === "anonymous" ? null : tokenFor(600, { role, ...rest }));

for (const one of cases("client_messages").filter(({ valid }) => !valid)) {
  test(`refused: ${one.name}`, DEADLINE, async (t) => {
    assert(!one.config || one.config.max_message_bytes === 131_072);
    const client = connectTo(t, (one.config ? wide : router).url, { webSocket: Taped });
    await client.connect();
    const tape = Taped.newest;
    const told = one.close ? once(client, "disconnected") : once(client, "error");
    tape.sendRaw(textOf(one));
    const heard = await told;
    if (one.close) {
      assert.equal((heard as Wire).code, one.close);
      return;
    }
    const { code, message, begins = "", names = [] } = one.error;
    assert(heard instanceof NeurographError, `${heard}`);
    assert.equal(heard.code, code);
    assert(heard.message.startsWith(message ?? begins), heard.message);
    for (const name of names) assert(heard.message.includes(name), heard.message);
    assert((await client.ping()) >= 0, "an error never closes the connection");
  });
}

const grants: [Wire, Record<string, [boolean, boolean]>][] = [
  ...Object.entries(table).map(([role, allows]) => [{ role }, allows] as never),
  ...claims.map((one: Wire) => [one.claims, one.allows]),
];

for (const [who, allows] of grants) {
  test(`a token's rights: ${JSON.stringify(who)}`, DEADLINE, async (t) => {
    const client = connectTo(t, guarded.url, { token: tokenOf(who) });
    const errors: Wire[] = [];
    client.on("error", (error) => errors.push(error));
    await client.connect();
    client.subscribeMultiple(CHANNELS, () => {});
    const may = (verb: 0 | 1) => CHANNELS.filter((name: string) => allows[name]?.[verb]);
    assert.deepEqual(await client.fetchSubscriptions(), may(0).sort());
    assert.deepEqual(
      errors.map(({ code, channel }) => [code, channel]),
      CHANNELS.filter((name: string) => !may(0).includes(name)).map((name: string) => ["permission_denied", name]),
    );
    const published: string[] = [];
    for (const name of CHANNELS) {
      try {
        await client.publish(name, "x");
        published.push(name);
      } catch (error) {
        assert(error instanceof RequestRefusedError, `${error}`);
        assert.equal(error.code, "permission_denied");
      }
    }
    assert.deepEqual(published, may(1));
  });
}

for (const { name, role, send, expect } of MESSAGES) {
  test(`as ${role}: ${name}`, DEADLINE, async (t) => {
    const client = connectTo(t, guarded.url, { token: tokenOf({ role }), webSocket: Taped });
    client.on("error", () => {});
    await client.connect();
    const tape = Taped.newest;
    assert.equal((await tape.next()).type, "connected");
    tape.sendRaw(send);
    new Matcher().assertMatches(await tape.next(), expect);
  });
}
