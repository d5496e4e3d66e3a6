"""Makes the authenticator of a worker, as `[auth]` has it."""

from __future__ import annotations

from relay.accounts.account_files import AccountFiles
from relay.accounts.failures import LoginFailures
from relay.accounts.hashing import Hashing
from relay.accounts.limited import LimitedAuthenticator
from relay.accounts.users_authenticator import UsersAuthenticator
from relay.config.model import Config, ConfigError
from relay.metrics import Metrics


def authenticator(
    config: Config, files: AccountFiles, failures: LoginFailures, metrics: Metrics
) -> LimitedAuthenticator | None:
    """What checks the logins of one worker; None where no listener takes any.

    Its `run` belongs to the background tasks of the worker.

    Raises:
        ConfigError: the way that `[auth]` names is not there.
    """
    if config.auth is None or all(listener.auth == "none" for listener in config.listen):
        return None
    if files.users is None:
        raise ConfigError("auth.dovecot: logins cannot be checked by Dovecot yet; set auth.users in its place")
    return LimitedAuthenticator(UsersAuthenticator(files.users, Hashing()), failures, metrics)
