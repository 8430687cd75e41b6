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
_PATH = {"type": "string", "minLength": 1, "maxLength": 200}
_CODES = {"type": "array", "items": {"type": "integer", "minimum": 100, "maximum": 599}}


def _described(description: str, **schema: Any) -> dict[str, Any]:
    return {**schema, "description": description}


def _parameters(description: str, required: str, **names: str) -> dict[str, Any]:
    properties = {name.rstrip("_"): _described(what, **_PATH) for name, what in names.items()}
    return _described(description, type="object", properties=properties, required=[required], additionalProperties=False)


_LIST = _described(
    "Path of a list in the JSON body, where a request may bring several of them; `parameters` are looked for in each.", **_PATH
)
INBOUND: dict[str, Any] = {
    "type": "object",
    "description": "How the provider brings messages to web_path; without it there are none.",
    "properties": {
        "parameters": _parameters(
            "What is called how in the provider's requests: parameters of the query or the form, or paths into a JSON body such "
            "as `sms.0.text`.",
            "from",
            from_="The sender.", to="The receiver.", content="The text.", group="The group it was sent to.",
            provider_id="The provider's id of the message: what comes with the same one again is not taken twice.",
            session_id="The provider's id of the session.", session_event="One of the words in session_events.",
        ),
        "list": _LIST,
        "session_events": _described(
            "The provider's words for the session events new, resume and close.",
            type="object", additionalProperties={"enum": ["new", "resume", "close"]},
        ),
        "session_timeout": _described(
            "Seconds without a request after which a session is over, where requests have a session_id.",
            type="number", minimum=0.1, maximum=86400, default=600,
        ),
        "reply_in_response": _described(
            "Whether the provider waits for the application's reply and takes it from the response, as USSD gateways do.",
            type="boolean", default=False,
        ),
        "response": {
            "type": "object",
            "description": "What a request is answered: at once, or with the reply (`{content}`, `{action}`).",
            "properties": {
                "status": _described("HTTP status.", type="integer", minimum=200, maximum=299, default=200),
                "content_type": _described(
                    "Of `body`.", type="string", pattern=r"^[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+(; ?charset=utf-8)?$",
                    default="text/plain",
                ),
                "body": _described("A template; in XML and HTML values are escaped.", type="string"),
                "json": _described("Instead of body: a JSON value, its texts are templates."),
                "actions": {
                    "type": "object",
                    "description": "What {action} is.",
                    "properties": {
                        "resume": _described("In a reply that goes on.", type="string", default="resume"),
                        "close": _described("In a reply that ends the session.", type="string", default="close"),
                    },
                    "additionalProperties": False,
                },
                "refusal_status": _described(
                    "HTTP status of the answer to a request that lacks something.",
                    type="integer", minimum=400, maximum=599, default=400,
                ),
            },
            "additionalProperties": False,
        },
        "transport_type": _described("transport_type of messages on AMQP.", type="string", default="sms"),
        "provider": _described("provider of messages on AMQP.", type="string"),
    },
    "required": ["parameters"],
    "additionalProperties": False,
}  # fmt: skip
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
        "success_pattern": _described("What the body of a 2xx answer to an accepted message holds.", **_PATTERN),
        "success_path": _described("Where a JSON answer says whether the message was accepted: `messages.0.status`.", **_PATH),
        "success_values": _described(
            "What stands there when it was.", type="array", items={"type": "string", "maxLength": 200}, minItems=1
        ),
        "reject_status": _described(
            "HTTP statuses that refuse a message for good.", **_CODES, default=[400, 404, 409, 410, 413, 414, 422, 451]
        ),
        "reject_pattern": _described("What the body of an answer holds that refuses a message for good.", **_PATTERN),
        "retry_pattern": _described(
            "What the body of an answer holds, whatever its status, that says: not now. Asked before the others.", **_PATTERN
        ),
        "retry_delay": _described(
            "Seconds before a message that was not taken is tried again.",
            type="number", minimum=0.01, maximum=3600, default=5,
        ),
        "id_path": _described(
            "Where the provider's id of the message stands in a JSON answer: `messages.0.id`.", **_PATH
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
        "parameters": _parameters(
            "What is called how in them, as in inbound.parameters.",
            "status",
            provider_id="The id that the provider answered when it took the message.",
            message_id="Our own id, where the message was sent with {message_id}.",
            status="One of the words in statuses.", reason="Why; told to the application.",
        ),
        "list": _LIST,
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
    "properties": {
        **PROPERTIES, "inbound": INBOUND, "outbound": OUTBOUND, "receipts": RECEIPTS,
        "on_unknown": _described(
            "A message of which nobody knows whether the provider took it: send it again (it may arrive twice), or report it as "
            "rejected (it may have arrived).", enum=["resend", "fail"], default="resend",
        ),
    },
    "additionalProperties": False,
}  # fmt: skip

CHANNEL_TYPE = ChannelType(
    name="http_api",
    transport="junebug.transports.http_api.transport:HttpApiTransport",
    config_schema=CONFIG_SCHEMA,
    secrets=(*SECRETS, "outbound.password", "outbound.secrets"),
    check="junebug.transports.http_api.mapping:check",
    host_bound=True,
)
