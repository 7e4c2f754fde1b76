"""The account that the server keeps of a subscription, beside what real clients have counted."""

import json

from tests.e2e.clients import Client, Message, connected, get, raw, text
from tests.e2e.program import running

EVENTS, SIZE = 4000, 2000


async def ledger_of(port: int, client_id: str) -> Message:
    code, body = await get(port, f"/api/v1/websocket/connections/{client_id}")
    assert code == 200
    [subscription] = body["subscriptions"]
    ledger: Message = subscription["ledger"]
    return ledger


async def publish(client: Client, first: int, last: int) -> None:
    """Publish events of some size; every tenth has the priority 9, the others 1."""
    for start in range(first, last + 1, 20):
        numbers = range(start, min(start + 20, last + 1))
        events = [{"event_type": "x", "data": {"priority": 1 if n % 10 else 9, "text": "x" * SIZE}} for n in numbers]
        reply = await client.ask(type="publish", channel="signals", events=events)
        assert reply["type"] == "published", reply


def adds_up(ledger: Message) -> bool:
    dropped = sum(ledger["dropped"].values())
    matched = ledger["delivered"] + ledger["queued"] + ledger["replaced"] + dropped
    return bool(ledger["offered"] == ledger["filtered"] + ledger["matched"] and ledger["matched"] == matched)


async def test_who_does_not_read_finds_each_event_delivered_or_in_a_gap() -> None:
    async with (
        running(outbox_events=300, send_buffer_bytes=16384) as program,
        connected(program.port) as writer,
        raw(program.port, receive_buffer=16384) as slow,
    ):
        hello = await slow.hear(type="connected")
        await slow.send(text('{"type":"subscribe","channels":["signals"]}'))
        await slow.hear(type="subscribed")
        await publish(writer, 1, EVENTS)
        before = await ledger_of(program.port, hello["client_id"])
        assert adds_up(before)
        assert before["offered"] == before["matched"] == EVENTS
        assert before["dropped"]["slow_consumer"] > 0
        got = missed = seq = 0
        while seq < EVENTS:
            message = await slow.next_message()
            if message.get("type") == "gap":
                assert message["from"] == seq + 1
                missed, seq = missed + message["count"], message["to"]
            else:
                assert message["seq"] == seq + 1
                got, seq = got + 1, seq + 1
        after = await ledger_of(program.port, hello["client_id"])
        assert adds_up(after)
        assert (after["delivered"], after["queued"], after["dropped"]) == (got, 0, {"slow_consumer": missed})
        assert got + missed == EVENTS


async def test_what_a_filter_leaves_out_is_counted_as_such() -> None:
    async with running() as program, connected(program.port) as writer, connected(program.port) as reader:
        hello = await reader.hear(type="connected")
        wanted = {"data.priority": {"$gte": 9}}
        assert (await reader.ask(type="subscribe", channels=["signals"], filter=wanted))["type"] == "subscribed"
        await publish(writer, 1, 200)
        seqs = [(await reader.hear(channel="signals"))["seq"] for _ in range(20)]
        assert seqs == list(range(10, 201, 10))
        ledger = await ledger_of(program.port, hello["client_id"])
        assert adds_up(ledger)
        assert (ledger["offered"], ledger["filtered"], ledger["delivered"]) == (200, 180, 20), json.dumps(ledger)


async def test_the_servers_sums_are_what_all_clients_have_counted() -> None:
    """Of three who subscribe one reads, one leaves its subscription with events in flight, and one hangs up."""
    async with (
        running(outbox_events=300, send_buffer_bytes=16384) as program,
        connected(program.port) as writer,
        raw(program.port, receive_buffer=16384) as reader,
        raw(program.port, receive_buffer=16384) as leaver,
    ):
        got = {reader: 0, leaver: 0}
        async with raw(program.port, receive_buffer=16384) as gone:
            for client in (reader, leaver, gone):
                await client.hear(type="connected")
                await client.send(text('{"type":"subscribe","channels":["signals"]}'))
                await client.hear(type="subscribed")
            await publish(writer, 1, EVENTS)
            await writer.subscribe("connections")
        hung_up = (await writer.hear(event_type="client.disconnected"))["data"]["client_id"]
        await leaver.send(text('{"type":"unsubscribe","channels":["signals"]}'))
        seq = 0
        while (message := await leaver.next_message()).get("type") != "unsubscribed":
            got[leaver] += "seq" in message
        while seq < EVENTS:
            message = await reader.next_message()
            got[reader] += "seq" in message
            seq = int(message["seq"] if "seq" in message else message["to"])
        code, sums = await get(program.port, "/api/v1/websocket/ledger")
        assert code == 200
        signals = sums["channels"]["signals"]
        assert adds_up(sums["server"])
        assert sums["server"]["offered"] == sum(channel["offered"] for channel in sums["channels"].values())
        assert adds_up(signals)
        assert signals["offered"] == signals["matched"] == 3 * EVENTS
        of_gone = await ledger_of(program.port, hung_up)
        assert signals["queued"] == of_gone["queued"] > 0
        assert signals["delivered"] == got[reader] + got[leaver] + of_gone["delivered"]
        assert signals["dropped"]["unsubscribed"] > 0
