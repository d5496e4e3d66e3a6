"""What the queue commands take for a message or a delivery."""

from __future__ import annotations

import pytest

from relay.queue.selector import Selector


@pytest.mark.parametrize(("given", "n"), [("3f2kq0z81twh", None), ("3F2KQ0Z81TWH/0", 0), ("3F2KQ0Z81TWH/12", 12)])
def test_a_message_or_one_of_its_deliveries(given: str, n: int | None) -> None:
    selector = Selector.parse(given)
    assert (selector.message_id, selector.n) == (Selector.parse("3F2KQ0Z81TWH").message_id, n)


@pytest.mark.parametrize(
    "given", ["", "3F2KQ0Z81TW", "3F2KQ0Z81TWH/", "3F2KQ0Z81TWH/x", "3F2KQ0Z81TWH/1/2", "ILOU00000000"]
)
def test_what_is_no_queue_id_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="is not a queue id"):
        Selector.parse(given)
