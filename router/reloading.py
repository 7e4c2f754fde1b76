"""Keys, permissions, channels and the certificate, read at the start and again when the configuration has changed."""

from __future__ import annotations

import structlog
import trio

from actors import ActorError, Reply
from router.auth import Authenticator, JwtSettings
from router.config import Config, ConfigError
from router.connection import Services
from router.letters import Reconfigure
from router.revocations import Revocations
from router.tls import Tls, make_tls

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


async def check_files(config: Config) -> None:
    """Read the keys and the certificate as the server does at its start; nothing is fetched from an address.

    Raises:
        ConfigError: One cannot be used.
        router.auth.KeyConfigError: Likewise.

    Cancellation: safe.
    """
    authenticator = await _local_authenticator(config, None)
    if authenticator is not None and "://" not in (config.jwks or ""):
        await authenticator.start()
    await trio.to_thread.run_sync(make_tls, config)


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
    if (tls is None) != (fresh_tls is None):
        raise ConfigError("with TLS where there was none, or without where there was TLS, the server must restart")

    def question(reply: Reply[int]) -> Reconfigure:
        return Reconfigure(reply, new.roles, new.channels)

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
