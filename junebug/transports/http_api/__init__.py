"""Channel type `http_api`: any aggregator or USSD gateway with an HTTP interface, described by the channel's config. The light
part.
"""

from typing import Any

from junebug.registry import ChannelType
from junebug.transports.http_rpc import PROPERTIES, SECRETS

STATUSES = ("delivered", "failed", "pending")
OWN_VARIABLES = ("to", "from", "content", "group", "message_id", "reply_to", "session_id")
"""What a template may say of a message, besides the names in `outbound.secrets`."""
_PATTERN = {"type": "string", "minLength": 1, "maxLength": 1000}
_PARAMETER = {"type": "string", "minLength": 1, "maxLength": 100}
_CODES = {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}}


def _parameters(*names: str, required: tuple[str, ...]) -> dict[str, Any]:
    properties = dict.fromkeys(names, _PARAMETER)
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


INBOUND: dict[str, Any] = {
    "type": "object",
    "description": "How the provider brings messages to web_path; without it there are none.",
    "properties": {
        "parameters": {
            **_parameters("from", "to", "content", "group", "provider_id", "session_id", "session_event", required=("from",)),
            "description": "What is called how in the provider's requests: parameters of the query or the form, or paths into a "
                           "JSON body such as `sms.0.text`.",
        },
        "session_events": {
            "type": "object", "additionalProperties": {"enum": ["new", "resume", "close"]},
            "description": "The provider's words for the session events new, resume and close.",
        },
        "session_timeout": {
            "type": "number", "minimum": 0.1, "maximum": 86400, "default": 600,
            "description": "Seconds without a request after which a session is over, where requests have a session_id.",
        },
        "reply_in_response": {
            "type": "boolean", "default": False,
            "description": "Whether the provider waits for the application's reply and takes it from the response, as USSD "
                           "gateways do.",
        },
        "response": {
            "type": "object",
            "description": "What a request is answered: at once, or with the reply (`{content}`, `{action}`).",
            "properties": {
                "status": {
                    "type": "integer", "minimum": 200, "maximum": 299, "default": 200, "description": "HTTP status.",
                },
                "content_type": {"type": "string", "default": "text/plain", "description": "Of `body`."},
                "body": {"type": "string", "description": "A template; in XML values are escaped."},
                "json": {"description": "Instead of body: a JSON value, its texts are templates."},
                "actions": {
                    "type": "object", "additionalProperties": False,
                    "properties": {"resume": {"type": "string"}, "close": {"type": "string"}},
                    "description": "What {action} is in a reply that goes on, and in one that ends the session.",
                },
                "refusal_status": {
                    "type": "integer", "minimum": 400, "maximum": 599, "default": 400,
                    "description": "HTTP status of the answer to a request that lacks something.",
                },
            },
            "additionalProperties": False,
        },
        "transport_type": {"type": "string", "default": "sms", "description": "transport_type of messages on AMQP."},
        "provider": {"type": "string", "description": "provider of messages on AMQP."},
    },
    "required": ["parameters"],
    "additionalProperties": False,
}  # fmt: skip
def _described(description: str, **schema: Any) -> dict[str, Any]:
    return {**schema, "description": description}


OUTBOUND: dict[str, Any] = {
    "type": "object",
    "description": "How messages are given to the provider; without it the channel can only receive, and reply.",
    "properties": {
        "url": _described("A URL, or a URI template (RFC 6570) with the variables below.", type="string"),
        "method": _described("Of the request.", enum=["GET", "POST", "PUT"], default="POST"),
        "headers": _described(
            "Names and values of headers; values are templates.",
            type="object", additionalProperties={"type": "string", "maxLength": 2000},
        ),
        "form": _described("Body as a form: names and templates.", type="object", additionalProperties={"type": "string"}),
        "json": _described("Body as JSON: any value, its texts are templates."),
        "xml": _described("Body as XML: one template.", type="string"),
        "username": _described("With password: HTTP Basic.", type="string"),
        "password": _described("Beside username.", type="string"),
        "secrets": _described(
            "Names and values of more variables, which are never shown: keys, passwords.",
            type="object", additionalProperties={"type": "string", "minLength": 1},
        ),
        "timeout": _described(
            "Seconds in which the provider must have answered.", type="number", minimum=0.1, maximum=300, default=30
        ),
        "window": _described("Requests under way at the same time.", type="integer", minimum=1, maximum=500, default=10),
        "success_pattern": _described("What the body of an answer to an accepted message holds.", **_PATTERN),
        "reject_status": _described(
            "HTTP statuses that refuse a message for good.", **_CODES, default=[400, 404, 409, 410, 413, 422]
        ),
        "reject_pattern": _described("What the body of an answer holds that refuses a message for good.", **_PATTERN),
        "retry_delay": _described(
            "Seconds before a message that was not taken is tried again.",
            type="number", minimum=0.01, maximum=3600, default=5,
        ),
        "id_path": _described(
            "Where the provider's id of the message stands in a JSON answer: `messages.0.id`.",
            type="string", minLength=1, maxLength=200,
        ),
        "id_pattern": _described("A pattern whose only group finds that id in the answer's body.", **_PATTERN),
    },
    "required": ["url"],
    "additionalProperties": False,
}  # fmt: skip
RECEIPTS: dict[str, Any] = {
    "type": "object",
    "description": "How the provider tells what became of messages; without it there are no delivery events.",
    "properties": {
        "path": _described("Path of these requests, beside web_path.", type="string", minLength=1, maxLength=200),
        "parameters": _described(
            "What is called how in them, as in inbound.parameters.",
            **_parameters("provider_id", "message_id", "status", "reason", required=("status",)),
        ),
        "statuses": _described(
            "The provider's words for delivered, failed and pending.",
            type="object", additionalProperties={"enum": list(STATUSES)}, minProperties=1,
        ),
        "id_ttl": _described(
            "Seconds for which receipts of a message are waited for.",
            type="number", minimum=1, maximum=315360000, default=604800,
        ),
    },
    "required": ["path", "parameters", "statuses"],
    "additionalProperties": False,
}  # fmt: skip
CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {**PROPERTIES, "inbound": INBOUND, "outbound": OUTBOUND, "receipts": RECEIPTS},
    "additionalProperties": False,
}

CHANNEL_TYPE = ChannelType(
    name="http_api",
    transport="junebug.transports.http_api.transport:HttpApiTransport",
    config_schema=CONFIG_SCHEMA,
    secrets=(*SECRETS, "outbound.password", "outbound.secrets"),
    check="junebug.transports.http_api.mapping:check",
)
