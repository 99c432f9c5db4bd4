from __future__ import annotations

import asyncio

import numpy as np

from fakes import FakeClock, FakeDevice, SteppedEngine, points, settle, spec, stepped
from hitree_server.engine import Broken, Ended, LeafStarted, Stream
from hitree_server.engine.sequence import Sequence
from hitree_server.engine.step import Emission
from hitree_server.engine.streams import Streams


def moving(**limits: int) -> SteppedEngine:
    """An engine whose steps take so long that no point waits for the next one."""
    clock, device = FakeClock(), FakeDevice()
    device.before = lambda: clock.advance(0.04)
    return stepped(device, clock, **limits)


async def read_along(e: SteppedEngine, stream: Stream, events: list[object]) -> None:
    """Read to the end, one event at a time, while the engine does whatever it can."""
    async with asyncio.timeout(20):  # a sequence that is never resumed would hang
        while not (events and isinstance(events[-1], Ended)):
            e.run()
            events.append(await anext(stream))


async def test_a_step_wakes_an_event_loop_once_whatever_the_number_of_streams(monkeypatch):
    e = stepped()
    streams = [e.submit(spec(seed)) for seed in range(32)]
    wakes = []
    loop = asyncio.get_running_loop()
    real = loop.call_soon_threadsafe
    monkeypatch.setattr(
        loop, "call_soon_threadsafe", lambda *a, **k: (wakes.append(a), real(*a, **k))[1]
    )
    e.tick()
    e.tick()  # what the first one made is sent when the second one computes
    assert len(wakes) == 1
    await settle()
    assert all(stream._events for stream in streams)


class Loop:
    """An event loop that is only ever woken."""

    def __init__(self) -> None:
        self.wakes: list[list[Stream]] = []

    def call_soon_threadsafe(self, _deliver: object, batch: list[tuple[Stream, object]]) -> None:
        self.wakes.append([stream for stream, _ in batch])


async def test_every_event_loop_is_woken_once_whether_for_newcomers_or_for_others():
    streams, loops = Streams(), [Loop() for _ in range(3)]
    old, other, late, alone = opened = [
        Stream(Sequence(spec(number), number, 0.0), 64, lambda _: None, lambda _: None)
        for number in range(4)
    ]
    for stream, loop in zip(opened, (loops[0], loops[1], loops[0], loops[2]), strict=True):
        stream.loop = loop
        streams.open(stream)
    news = [Emission(stream.sequence, (LeafStarted(0),)) for stream in opened]
    streams.publish(news[:2])
    streams.publish(news[2:], ahead=(late.sequence, alone.sequence))
    for _ in range(2):  # what was sent is not sent again
        streams.send()
        assert [loop.wakes for loop in loops] == [[[late, old]], [[other]], [[alone]]]


async def test_a_step_without_news_wakes_nobody(monkeypatch):
    e = stepped(FakeDevice(lift=0.0))
    e.submit(spec(1))
    e.tick()
    e.tick()
    wakes = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *a: wakes.append(a))
    e.tick()
    assert wakes == []


async def test_a_slow_reader_is_paused_and_loses_nothing():
    reference = stepped()
    expected = reference.submit(spec(5))
    reference.run()
    whole = points([event async for event in expected])

    e = moving(max_rows=1, buffer_events=4)
    slow, fast = e.submit(spec(5)), e.submit(spec(6))
    e.run()
    assert e.stats.paused >= 1
    assert slow._behind < 12  # a step makes several events at most
    fast_events, slow_events = [], []
    for stream, events in ((fast, fast_events), (slow, slow_events)):
        await read_along(e, stream, events)
    assert np.array_equal(points(slow_events), whole)
    assert e.stats.paused == e.stats.running == e.stats.waiting == 0


async def test_groups_are_all_that_is_there_and_lose_nothing_by_pauses():
    reference = stepped()
    expected = reference.submit(spec(5))
    reference.run()
    whole = await expected.group()
    assert isinstance(whole[-1], Ended)
    assert await expected.group() == []

    e = moving(max_rows=1, buffer_events=4)
    stream, events, pauses = e.submit(spec(5)), [], 0
    async with asyncio.timeout(20):
        while not (events and isinstance(events[-1], Ended)):
            e.run()
            pauses += e.stats.paused
            events += await stream.group()
    assert pauses > 2
    assert e.stats.paused == stream._behind == 0
    assert np.array_equal(points(events), points(whole))


async def test_a_reader_that_never_reads_does_not_stall_others():
    e = moving(max_rows=1, buffer_events=4)
    stalled = [e.submit(spec(seed, max_points=1000)) for seed in range(4)]
    other = e.submit(spec(9, priority=-1))
    await read_along(e, other, [])
    assert e.stats.paused == len(stalled)


async def test_a_paused_sequence_can_be_cancelled_and_still_ends_once():
    e = moving(buffer_events=4)
    stream = e.submit(spec(5))
    e.run()
    assert e.stats.paused == 1
    stream.cancel()
    stream.cancel()
    e.run()
    events = [event async for event in stream]
    assert [isinstance(event, Broken) for event in events].count(True) == 1
    assert isinstance(events[-1], Broken)
    assert e.stats.paused == 0


async def test_leaving_the_block_cancels():
    e = stepped()
    async with e.submit(spec(5)) as stream:
        e.tick()
        assert e.stats.running == 1
    e.run()
    assert e.stats.running == 0
    assert e.stats.finished == {"cancelled": 1}
    assert isinstance([event async for event in stream][-1], Broken)


async def test_nothing_follows_the_last_event():
    e = stepped()
    stream = e.submit(spec(5))
    e.run()
    events = [event async for event in stream]
    assert isinstance(events[-1], Ended)
    assert [event async for event in stream] == []


async def test_a_reader_that_waits_is_woken_and_one_that_is_cancelled_can_read_on():
    e = stepped()
    stream = e.submit(spec(5))
    impatient = asyncio.ensure_future(anext(stream))
    await settle()
    impatient.cancel()
    await settle()
    patient = asyncio.ensure_future(anext(stream))
    await settle()
    e.tick()
    e.tick()
    assert (await patient).leaf == 0


def test_sequences_whose_event_loop_is_closed_are_given_up():
    e = stepped()

    async def leave_behind():
        e.submit(spec(5))

    asyncio.run(leave_behind())
    e.run()
    assert e.stats.finished == {"cancelled": 1}
    assert e.stats.running == 0
    assert not e._streams._streams
