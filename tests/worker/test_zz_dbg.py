import asyncio, dataclasses, pytest, sys
from tests.worker.test_forwarder import *
for n in list(globals()):
    if n.startswith("test_"): del globals()[n]
@pytest.mark.parametrize("i", range(12))
async def test_dbg(quick, host, i):
    channel = await loopback(quick, mo_url=host.url(), amqp_queue=f"app-{free_ports(1)[0]}")
    await receive(quick, channel, *(mo(str(n)) for n in range(30)))
    await all_wait(quick, channel, 25)
    await change(quick, channel, mo_url=None, amqp_queue=None)
    try: await has_none(quick, channel)
    except AssertionError:
        w = quick._workers[channel]
        noted = await quick.stores.delay_queues.noted(channel)
        print(await quick.broker.queue_lengths([*noted, names.inbound_queue(channel), names.callback_queue(channel)]), noted)
        for lane in w._destinations._lanes.values():
            x = lane.waiting
            print("L", lane.destination, lane.circuit.is_open, x.is_used, x._is_sorting, len(x._outbox), x._is_writing, lane._calls, len(lane._line._behind), len(x._drawn), x._marker, x._behind_marker, x._pass_over.is_set(), len(x.held))
            if x._keeper: x._keeper.print_stack(file=sys.stdout)
        raise
