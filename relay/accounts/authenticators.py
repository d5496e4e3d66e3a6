"""Makes the authenticator of a worker, as `[auth]` has it."""

from __future__ import annotations

from relay.accounts.account_files import AccountFiles
from relay.accounts.dovecot import DovecotAuthenticator
from relay.accounts.failures import LoginFailures
from relay.accounts.hashing import Hashing
from relay.accounts.limited import LimitedAuthenticator, Running
from relay.accounts.users_authenticator import UsersAuthenticator
from relay.config.model import Config
from relay.metrics import Metrics


def authenticator(
    config: Config, files: AccountFiles, failures: LoginFailures, metrics: Metrics, *, quiet: bool = False
) -> LimitedAuthenticator | None:
    """What checks the logins of one worker; None where no listener takes any.

    Its `run` belongs to the background tasks of the worker.

    Args:
        quiet: whether another worker logs what all of them see.
    """
    if config.auth is None or all(listener.auth == "none" for listener in config.listen):
        return None
    inner: Running | None = None
    if files.users is not None:
        inner = UsersAuthenticator(files.users, Hashing())
    elif config.auth.dovecot is not None:
        inner = DovecotAuthenticator(config.auth.dovecot, quiet=quiet)
    return None if inner is None else LimitedAuthenticator(inner, failures, metrics)
