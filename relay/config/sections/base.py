"""What every table of the configuration has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from relay.config.values import Network
from relay.network import IPNetwork, too_wide


class Section(BaseModel):
    """A table of the file: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def _refuse_everyone(value: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
    if (network := too_wide(value)) is not None:
        raise ValueError(f"{network} would make this an open relay; name the networks that are yours")
    return value


OwnNetworks = Annotated[tuple[Network, ...], AfterValidator(_refuse_everyone)]
