"""Work that is shared, and given up when nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from ml_backend.flights import Flights


def test_what_several_ask_for_is_done_once() -> None:
    async def main() -> None:
        flights: Flights[str, int] = Flights()
        begun = 0
        gate = asyncio.Event()

        async def work() -> int:
            nonlocal begun
            begun += 1
            await gate.wait()
            return 7

        asking = [asyncio.ensure_future(flights.join("a", work)) for _ in range(5)]
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*asking) == [7] * 5
        assert begun == 1
        assert len(flights) == 0
        assert await flights.join("a", work) == 7
        assert begun == 2

    asyncio.run(main())


def test_it_goes_on_while_one_still_waits_and_ends_with_the_last() -> None:
    async def main() -> None:
        flights: Flights[str, int] = Flights()
        ended: list[str] = []

        async def work() -> int:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                ended.append("given up")
                raise
            return 1

        first, second = (asyncio.ensure_future(flights.join("a", work)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert len(flights) == 1
        assert ended == []
        second.cancel()
        await asyncio.wait([second])
        await asyncio.sleep(0)
        assert ended == ["given up"]
        assert len(flights) == 0

    asyncio.run(main())


def test_whoever_asks_after_the_others_gave_up_begins_anew() -> None:
    async def main() -> None:
        flights: Flights[str, str] = Flights()

        async def slow() -> str:
            await asyncio.sleep(10)
            return "slow"

        async def quick() -> str:
            return "quick"

        first = asyncio.ensure_future(flights.join("a", slow))
        await asyncio.sleep(0)
        first.cancel()
        later = asyncio.ensure_future(flights.join("a", quick))
        await asyncio.wait([first])
        # Joined before the first one's end was known, it may still have met the old work.
        assert (await asyncio.gather(later, return_exceptions=True))[0] in ("quick",) or later.cancelled()
        assert await flights.join("a", quick) == "quick"

    asyncio.run(main())


def test_all_get_the_exception() -> None:
    async def main() -> None:
        flights: Flights[str, int] = Flights()

        async def work() -> int:
            await asyncio.sleep(0)
            raise ValueError("broken")

        asking = [asyncio.ensure_future(flights.join("a", work)) for _ in range(3)]
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert [str(error) for error in found] == ["broken"] * 3
        with pytest.raises(ValueError, match="broken"):
            await flights.join("a", work)

    asyncio.run(main())
