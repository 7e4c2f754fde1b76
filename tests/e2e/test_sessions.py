"""Sessions: what a client misses while it is away arrives when it comes back, and what cannot is told exactly."""

from tests.e2e.clients import Client, Message, batches, connected, raw, reset, status
from tests.e2e.program import Program, running


async def publish_numbers(client: Client, first: int, last: int) -> None:
    """Publish events whose data are the numbers from `first` to `last`."""
    for numbers in batches(last - first + 1):
        events = [{"event_type": "test.number", "data": {"n": first - 1 + n}} for n in numbers]
        reply = await client.ask(type="publish", channel="signals", events=events)
        assert reply["type"] == "published", reply


async def hear_numbers(client: Client, first: int, last: int) -> None:
    """Hear exactly those, in order, and each once."""
    for n in range(first, last + 1):
        event = await client.hear(channel="signals")
        assert (event["data"]["n"], event["seq"]) == (n, n)


async def until_gone(witness: Client, hello: Message) -> Message:
    while True:
        gone = await witness.hear(event_type="client.disconnected")
        if gone["data"]["client_id"] == hello["client_id"]:
            return gone


async def leave_in_the_middle(program: Program, witness: Client) -> Message:
    """A client subscribes, hears five numbers and is gone; what `connected` had told it."""
    await witness.subscribe("connections")
    async with connected(program.port) as client:
        hello = await client.hear(type="connected")
        await client.subscribe("signals")
        await publish_numbers(witness, 1, 5)
        await hear_numbers(client, 1, 5)
        await client.reset()
    gone = await until_gone(witness, hello)
    assert gone["data"]["code"] == 1006
    return hello


async def test_what_was_missed_arrives() -> None:
    async with running() as program, connected(program.port) as witness:
        hello = await leave_in_the_middle(program, witness)
        await publish_numbers(witness, 6, 20)
        async with connected(program.port, f"?reconnection_token={hello['reconnection_token']}") as client:
            again = await client.hear()
            assert (again["type"], again["reconnected"]) == ("connected", True)
            assert again["client_id"] == hello["client_id"]
            assert again["channels"] == ["signals"]
            assert again["positions"] == {"signals": {"epoch": hello["epoch"], "seq": 5}}
            assert again["reconnection_token"] != hello["reconnection_token"]
            await hear_numbers(client, 6, 20)
            await publish_numbers(witness, 21, 25)
            await hear_numbers(client, 21, 25)
            assert (await client.ask(type="get_subscriptions"))["channels"] == ["signals"]


async def test_what_the_buffer_cannot_hold_is_an_exact_gap() -> None:
    async with running() as program, connected(program.port) as witness:
        hello = await leave_in_the_middle(program, witness)
        await publish_numbers(witness, 6, 2505)  # 1,000 are kept
        async with connected(program.port, f"?reconnection_token={hello['reconnection_token']}") as client:
            assert (await client.hear())["reconnected"] is True
            gap = await client.hear()
            assert gap == {
                "type": "gap",
                "of": "signals",
                "epoch": hello["epoch"],
                "from": 6,
                "to": 1505,
                "count": 1500,
                "reason": "buffer_overflow",
            }
            await hear_numbers(client, 1506, 2505)
            await publish_numbers(witness, 2506, 2506)
            await hear_numbers(client, 2506, 2506)


async def test_a_second_return_does_not_repeat_the_first() -> None:
    async with running() as program, connected(program.port) as witness:
        hello = await leave_in_the_middle(program, witness)
        await publish_numbers(witness, 6, 10)
        async with connected(program.port, f"?reconnection_token={hello['reconnection_token']}") as client:
            hello = await client.hear(type="connected")
            await hear_numbers(client, 6, 10)
            await client.reset()
        await until_gone(witness, hello)
        await publish_numbers(witness, 11, 12)
        async with connected(program.port, f"?reconnection_token={hello['reconnection_token']}") as client:
            assert (await client.hear())["positions"]["signals"]["seq"] == 10
            await hear_numbers(client, 11, 12)


async def test_a_connected_that_was_lost_costs_nothing() -> None:
    """The old token works until the client has said something on the new connection."""
    async with running() as program, connected(program.port) as witness:
        hello = await leave_in_the_middle(program, witness)
        query = f"?reconnection_token={hello['reconnection_token']}"
        async with raw(program.port, query) as lost:
            await reset(lost.stream)
        await until_gone(witness, hello)
        async with connected(program.port, query) as client:
            assert (await client.hear())["client_id"] == hello["client_id"]
            assert (await client.ask(type="ping"))["type"] == "pong"
        async with connected(program.port, query) as client:
            assert (await client.hear())["reconnected"] is False


async def test_another_connection_takes_the_session_over() -> None:
    async with running() as program, connected(program.port) as witness:
        await witness.subscribe("connections")
        async with connected(program.port) as elder:
            hello = await elder.hear(type="connected")
            await elder.subscribe("signals")
            await publish_numbers(witness, 1, 3)
            await hear_numbers(elder, 1, 3)
            async with connected(program.port, f"?reconnection_token={hello['reconnection_token']}") as younger:
                assert (await younger.hear())["reconnected"] is True
                assert await elder.close_of() == (4502, "another connection resumed this session")
                assert (await until_gone(witness, hello))["data"]["code"] == 4502
                await publish_numbers(witness, 4, 6)
                await hear_numbers(younger, 4, 6)
                assert (await status(program.port))["total_connections"] == 2


async def test_a_session_ends_with_its_clients_goodbye() -> None:
    async with running() as program:
        async with connected(program.port) as client:
            hello = await client.hear(type="connected")
            await client.subscribe("signals")
        query = f"?reconnection_token={hello['reconnection_token']}"
        async with connected(program.port, query) as client:
            again = await client.hear()
            assert again["reconnected"] is False
            assert again["client_id"] != hello["client_id"]
            assert (await client.ask(type="get_subscriptions"))["channels"] == []
        async with connected(program.port, "?reconnection_token=nonsense") as client:
            assert (await client.hear())["reconnected"] is False
        assert (await status(program.port))["total_subscriptions"] == 0
