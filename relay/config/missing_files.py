"""Says how a file that a configuration names, and that is not there, comes to be."""

from __future__ import annotations

from pathlib import Path


def missing_file_mend(key: str, path: Path, source: Path | None) -> str:
    """What to do about a missing file, as the end of a line that names it; empty where only the administrator knows.

    Args:
        key: the key of the configuration that names the file.
        source: the configuration file; None where the environment is the whole configuration.
    """
    if key == "srs.secrets_file":
        making = f"srs-relay init {source}" if source is not None else f"(umask 077; openssl rand -hex 32 > {path})"
        return f"; `{making}` makes it"
    if key == "arc.private_key" or (key.startswith("dkim.") and key.endswith(".private_key")):
        return f"; `srs-relay keys new{f' --config {source}' if source is not None else ''}` makes it"
    if key.startswith("tls."):
        return "; get a certificate for the host name, or remove [tls] and do without STARTTLS"
    if key == "auth.users":
        return f"; `srs-relay users add NAME{f' --config {source}' if source is not None else ''}` makes it"
    if key == "auth.senders":
        return f"; `touch {path}` makes it, with nothing but everybody's own senders"
    if key.endswith(".access"):
        return f"; `touch {path}` makes it, without a rule"
    if key == "routes.aliases":
        return f"; `touch {path}` makes it, without aliases"
    return ""
