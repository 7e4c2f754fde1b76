"""Reads what the configuration refers to, at the start and when it has changed: keys, schemas, certificates."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
import trio

from actors import ActorError, Reply
from router.auth.revocations import Revocations
from router.auth.tokens import Authenticator, JwtSettings
from router.config import Config, ConfigError
from router.connection import Services
from router.door.tls import Tls, make_tls
from router.letters import Reconfigure
from router.loading.checks import SettingsError
from router.loading.toml import one_line, path_written
from router.schemas import Schema, SchemaError

#: A larger file is not a schema; a device file would never end.
_MAX_SCHEMA_BYTES = 1 << 20

log = structlog.get_logger("router.reloading")


async def make_authenticator(config: Config, revocations: Revocations) -> Authenticator | None:
    """What checks tokens; None where there is no key.

    Raises:
        ConfigError: A key file cannot be read.
        router.auth.KeyConfigError: A key cannot be used.

    Cancellation: safe.
    """
    authenticator = await _local_authenticator(config, revocations)
    if authenticator is not None:
        await authenticator.start()
    return authenticator


def read_schemas(config: Config) -> Mapping[str, Schema]:
    """Read and compile the channels' JSON Schemas, by channel.

    Raises:
        SettingsError: One cannot be used.
    """
    schemas = {}
    for name, settings in config.channels.items():
        if settings.schema_file is not None:
            try:
                schemas[name] = Schema(_read_text(settings.schema_file))
            except SchemaError as error:
                place = ("channels", name, "schema_file")
                said = f"{path_written(place)} = {settings.schema_file!r}: {one_line(str(error))}"
                raise SettingsError(said, place) from None
    return schemas


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a path with a null is told of like any other
            content = file.read(_MAX_SCHEMA_BYTES + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SchemaError("not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SchemaError(f"the file cannot be read: {reason}") from None
    if len(content) > _MAX_SCHEMA_BYTES:
        raise SchemaError(f"larger than {_MAX_SCHEMA_BYTES} bytes")
    return text


async def check_files(config: Config) -> None:
    """Read keys, certificate and schemas as the server does at its start; nothing is fetched from an address.

    Raises:
        ConfigError: One cannot be used.
        router.auth.KeyConfigError: Likewise.

    Cancellation: safe.
    """
    authenticator = await _local_authenticator(config, None)
    if authenticator is not None and "://" not in (config.jwks or ""):
        await authenticator.start()
    await trio.to_thread.run_sync(make_tls, config)
    await trio.to_thread.run_sync(read_schemas, config)


async def _local_authenticator(config: Config, revocations: Revocations | None) -> Authenticator | None:
    """The authenticator with its local keys; its JWK set is not loaded yet."""
    if not config.has_key:
        return None
    pem = None
    if config.jwt_public_key_file is not None:
        try:
            pem = await trio.Path(config.jwt_public_key_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"jwt_public_key_file {config.jwt_public_key_file!r} cannot be read: {reason}") from None
    settings = JwtSettings(
        jwt_keys=config.jwt_keys,
        public_key=pem,
        jwks=config.jwks,
        algorithms=config.jwt_algorithms,
        audience=config.jwt_audience,
        issuer=config.jwt_issuer,
    )
    return Authenticator(settings, revocations=revocations)


async def reload(old: Config, new: Config, services: Services, tls: Tls | None) -> None:
    """Put the keys, permissions, channels and certificate of `new` in force.

    Raises:
        ConfigError: It cannot be used; then nothing has changed.
        router.auth.KeyConfigError: Likewise.

    Cancellation: nothing or all of it has changed.
    """
    if old.has_key != new.has_key:
        raise ConfigError("with a key where there was none, or without where there was one, the server must restart")
    fresh_tls = await trio.to_thread.run_sync(make_tls, new)
    schemas = await trio.to_thread.run_sync(read_schemas, new)
    if (tls is None) != (fresh_tls is None):
        raise ConfigError("with TLS where there was none, or without where there was TLS, the server must restart")

    def question(reply: Reply[int]) -> Reconfigure:
        return Reconfigure(reply, new.roles, new.channels, schemas)

    fresh = await make_authenticator(new, services.state.revocations)
    with trio.CancelScope(shield=True):  # it waits for the router alone
        try:
            withdrawn = await services.router.ask(question)
        except ActorError as error:
            raise ConfigError(f"the router did not take the configuration: {error}") from None
        if services.authenticator is not None and fresh is not None:
            services.authenticator.adopt(fresh)
        if tls is not None and fresh_tls is not None:
            tls.adopt(fresh_tls)
    log.info("configuration read anew", roles=len(new.roles), channels=len(new.channels), clients_withdrawn=withdrawn)
