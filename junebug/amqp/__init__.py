"""RabbitMQ: the only room that imports its client libraries."""
