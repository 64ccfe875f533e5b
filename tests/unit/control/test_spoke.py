"""What a spoke does with an address that no attempt can dial."""

from __future__ import annotations

from pathlib import Path

import pytest

from nova.control.spoke import Spoke
from nova.errors import ControlError
from nova.wire.messages import Hello
from tests.unit.control.peers import FAST, SpokeEvents, World, run


def test_an_address_that_cannot_be_dialled_is_a_control_error_that_names_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    keys = world.admitted("a")

    async def main() -> None:
        events = SpokeEvents()
        spoke = Spoke("my host:29200", world.keys.public, keys, lambda: Hello("a", "worker", "test"), FAST, events)
        with pytest.raises(ControlError, match="'my host:29200'"):
            await spoke.run()
        assert len(events.of("lost")) == 1
        await spoke.close()

    run(main())
