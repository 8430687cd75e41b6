"""`junebug doctor`: what may be wrong with a Junebug and what it stands on, and what to do about it.

    command.py   the command: every check, one after the other, each bounded in time
    finding.py   a finding, and how it is shown
    machine.py   versions, clock, disks, files, descriptors        ports.py      the API's port and the door's
    redis.py     Redis                                             rabbitmq.py   RabbitMQ
    dangers.py   settings that let in more than is meant           channels.py   channels that are down, or can never run
    import_check.py, old_junebug.py   what of a Junebug 0.1 or 0.2 will work here

What talks to a server is elsewhere (stores/inspection.py, amqp/probe.py): here facts become findings.
"""
