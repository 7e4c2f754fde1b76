"""Keys, permissions and channels, put in force anew while the server runs."""

import json
import threading
from pathlib import Path

import jwt
import pytest
import websockets.trio.client
from structlog.testing import capture_logs

from router import reloading
from router.auth.tokens import KeyConfigError
from router.config import ChannelSettings, Config, ConfigError
from router.loading.checks import SettingsError
from router.permissions import RolePermissions
from router.schemas import Schema
from router.server import Server
from tests.certificates import certificate
from tests.router.serving import close_of, connect, hear, serving

OLD_KEY, NEW_KEY = "old" * 16, "new" * 16
OLD = Config(port=0, jwt_keys=(OLD_KEY,))


def token(key: str, **claims: object) -> str:
    return jwt.encode({"sub": "ada", "role": "viewer"} | claims, key, algorithm="HS256")


def target(key: str) -> str:
    return f"/ws?token={token(key)}"


async def test_keys_are_rotated_and_who_is_connected_stays() -> None:
    server = Server(OLD)
    async with serving(server) as port, connect(port, target(OLD_KEY)) as client:
        await hear(client, type="connected")
        await server.reload(Config(jwt_keys=(NEW_KEY, OLD_KEY)))
        for key in (OLD_KEY, NEW_KEY):
            async with connect(port, target(key)) as another:
                await hear(another, type="connected", user_id="ada")
        await server.reload(Config(jwt_keys=(NEW_KEY,)))
        async with connect(port, target(OLD_KEY)) as late:
            assert await close_of(late) == (1008, "the token's signature does not fit")
        await client.send('{"type":"ping"}')
        await hear(client, type="pong")


async def test_permissions_and_channels_change_under_those_who_are_connected() -> None:
    server = Server(OLD)
    async with serving(server) as port, connect(port, target(OLD_KEY)) as client:
        await client.send(json.dumps({"type": "subscribe", "channels": ["metrics", "orders.1"]}))
        await hear(client, type="subscribed", channels=["metrics"], denied=["orders.1"])
        roles = {"viewer": RolePermissions(subscribe=("orders.*",))}
        channels = {"orders.*": ChannelSettings()}
        with capture_logs() as records:
            await server.reload(Config(jwt_keys=(OLD_KEY,), roles=roles, channels=channels))
        (record,) = (record for record in records if record["event"] == "configuration read anew")
        assert (record["roles"], record["channels"], record["clients_withdrawn"]) == (1, 1, 1)
        await hear(client, type="unsubscribed", channels=["metrics"], reason="permission_denied")
        await client.send(json.dumps({"type": "subscribe", "channels": ["metrics", "orders.1"]}))
        await hear(client, type="subscribed", channels=["orders.1"], denied=["metrics"])


async def test_a_certificate_is_read_anew_for_those_who_come_and_the_others_stay(tmp_path: Path) -> None:
    old, new = certificate(tmp_path, "old"), certificate(tmp_path, "new")
    server = Server(Config(port=0, **old.settings))
    async with serving(server) as port:
        url = f"wss://127.0.0.1:{port}/ws"
        async with websockets.trio.client.connect(url, ssl=old.trusted(), proxy=None) as client:
            await hear(client, type="connected")
            await server.reload(Config(**new.settings))
            async with websockets.trio.client.connect(url, ssl=new.trusted(), proxy=None) as another:
                await hear(another, type="connected")
            new.key_file.write_text("broken")
            with pytest.raises(ConfigError, match="tls_key_file"):
                await server.reload(Config(**new.settings))
            async with websockets.trio.client.connect(url, ssl=new.trusted(), proxy=None) as another:
                await hear(another, type="connected")
            await client.send('{"type":"ping"}')
            await hear(client, type="pong")


async def test_files_are_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []
    monkeypatch.setattr(reloading, "make_tls", lambda _: readers.append(threading.current_thread()))

    def read_schemas(_: Config) -> dict[str, Schema]:
        readers.append(threading.current_thread())
        return {}

    monkeypatch.setattr(reloading, "read_schemas", read_schemas)
    server = Server(OLD)
    async with serving(server):
        await server.reload(OLD)
    assert len(readers) == 2
    assert threading.current_thread() not in readers


async def test_tls_where_there_was_none_takes_a_restart(tmp_path: Path) -> None:
    server = Server(Config(port=0))
    async with serving(server):
        with pytest.raises(ConfigError, match="must restart"):
            await server.reload(Config(**certificate(tmp_path).settings))


async def test_a_schema_is_read_anew_also_where_nothing_else_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text('{"required": ["id"]}')
    settings = Config(port=0, channels={"jobs": ChannelSettings(schema_file=str(file))})
    server = Server(settings)
    async with serving(server) as port, connect(port) as client:

        async def publish(data: str) -> dict[str, object]:
            event = {"channel": "jobs", "event_type": "x", "data": json.loads(data)}
            await client.send(json.dumps({"type": "publish", "id": 1, **event}))
            return await hear(client, id=1)

        assert (await publish("{}"))["message"] == "data.id is missing"
        assert (await publish('{"id":1}'))["type"] == "published"
        file.write_text('{"properties": {"id": {"type": "string"}}}')
        await server.reload(settings)
        assert (await publish("{}"))["type"] == "published"
        for text in ("{", '{"type": 5}'):
            file.write_text(text)
            with pytest.raises(ConfigError, match=r"channels\.jobs\.schema_file"):
                await server.reload(settings)
        assert (await publish('{"id":1}'))["message"] == 'data.id: the value is not of type "string"'
        await server.reload(Config(port=0, channels={"jobs": ChannelSettings()}))
        assert (await publish('{"id":1}'))["type"] == "published"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the file cannot be read: No such file or directory"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b'"\xff"', "not UTF-8 text"),
        (b" " * (1 << 20) + b"{}", "larger than 1048576 bytes"),
        (b'{"type":\n"no\\nne"}', "at /type: the value is not valid under any of the schemas listed in the 'anyOf' "),
        (b'{"$ref":"http://127.0.0.1/\\n"}', "Invalid URI reference 'http://127.0.0.1/"),
    ],
)
def test_what_a_schema_file_lacks_is_told_in_one_line(content: bytes | None, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    if content is not None:
        file.write_bytes(content)
    channels = {"good": ChannelSettings(), "orders.*": ChannelSettings(schema_file=str(file))}
    with pytest.raises(SettingsError) as caught:
        reloading.read_schemas(Config(channels=channels))
    said = str(caught.value)
    assert said.startswith(f"channels.\"orders.*\".schema_file = '{file}': {reason}")
    assert said.isprintable()
    assert caught.value.places == (("channels", "orders.*", "schema_file"),)


@pytest.mark.parametrize("path", ["/dev/zero", "/", "", "a\0b", "\udcff"])
def test_what_is_no_file_is_no_schema(path: str) -> None:
    with pytest.raises(SettingsError, match=r"larger than|cannot be read: "):
        reloading.read_schemas(Config(channels={"a": ChannelSettings(schema_file=path)}))


def test_each_channel_has_the_schema_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"required": ["a"]}', "utf-8")
    (tmp_path / "b.json").write_text("true")
    files = {"one": "a.json", "two": "b.json", "three": "a.json"}
    channels = {name: ChannelSettings(schema_file=str(tmp_path / file)) for name, file in files.items()}
    schemas = reloading.read_schemas(Config(channels=channels | {"four": ChannelSettings()}))
    assert {name: bytes(schema.document) for name, schema in schemas.items()} == {
        "one": b'{"required":["a"]}', "two": b"true", "three": b'{"required":["a"]}',
    }  # fmt: skip


BAD = {
    "a schema that is not there": Config(
        jwt_keys=(NEW_KEY,), channels={"a": ChannelSettings(schema_file="/nowhere/a.json")}
    ),
    "a weak key": Config(jwt_keys=("short",)),
    "a key file that is not there": Config(jwt_public_key_file="/nowhere/key.pem"),
    "no key any more": Config(),
}


@pytest.mark.parametrize("config", BAD.values(), ids=BAD)
async def test_what_cannot_be_used_changes_nothing(config: Config, tmp_path: Path) -> None:
    server = Server(OLD)
    async with serving(server) as port:
        with pytest.raises((ConfigError, KeyConfigError)):
            await server.reload(config)
        async with connect(port, target(OLD_KEY)) as client:
            await hear(client, type="connected", user_id="ada")


async def test_a_key_where_there_was_none_takes_a_restart() -> None:
    server = Server(Config(port=0))
    async with serving(server):
        with pytest.raises(ConfigError, match="must restart"):
            await server.reload(OLD)


async def test_a_server_that_does_not_run_reads_nothing_anew() -> None:
    with pytest.raises(ConfigError, match="does not run"):
        await Server(OLD).reload(OLD)


async def test_a_server_that_has_ended_reads_nothing_anew() -> None:
    server = Server(OLD)
    async with serving(server):
        pass
    with pytest.raises(ConfigError, match="the router did not take the configuration"):
        await server.reload(OLD)
