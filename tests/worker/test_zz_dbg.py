import asyncio, dataclasses
from tests.worker.test_forwarder_faults import amqp_settings, host, restart, COUNT
from tests.worker.test_forwarder import DELAYS, Host, all_wait, loopback, mo, receive
async def test_dbg(bench, host, own_rabbitmq):
    bench.settings = dataclasses.replace(bench.settings, callback_retry_delays=DELAYS)
    channel = await loopback(bench, mo_url=host.url())
    await receive(bench, channel, *(mo(str(n), f"+{n}") for n in range(COUNT)))
    await all_wait(bench, channel, COUNT - 60)
    print("R", asyncio.create_task(asyncio.sleep(0)).get_name())
    await restart(own_rabbitmq)
    print("R", asyncio.create_task(asyncio.sleep(0)).get_name())
    await host.start()
    w = bench._workers[channel]
    for i in range(8):
        await asyncio.sleep(2)
        print("T", i, w._broker.connected, len(host.received), asyncio.create_task(asyncio.sleep(0)).get_name())
        for lane in w._destinations._lanes.values():
            print("L", lane.destination, lane.circuit.is_open, lane.circuit.probe_at - asyncio.get_running_loop().time(), lane.waiting.is_used, len(lane.waiting._outbox), lane.waiting._is_writing, lane._calls)
            if lane.waiting._writer: lane.waiting._writer.print_stack()
        print(await bench.broker.queue_lengths(await bench.stores.delay_queues.noted(channel)))
        print([type(x).__name__ for x in list(lane.waiting._outbox)[:3]], w._destinations._queues._leases)
    import subprocess
    import aio_pika
    from junebug.broker import _open
    conn = await _open(bench.settings.amqp, "x")
    for n in await bench.stores.delay_queues.noted(channel):
        try:
            ch = await conn.channel(); q = await ch.declare_queue(n, passive=True); print(n, q.declaration_result)
        except Exception as e: print("ERR", n, repr(e))
    await conn.close()
