"""MT: a message -> the submit_sm that carry it: text in which alphabet, parts, numbering, times, vendor parameters. Pure.

What a single message wants otherwise stands in its channel_data as `smpp`: CHANNEL_DATA_SCHEMA in __init__.py says what may,
and whoever calls has looked; `check` tells the API of the rest. Neighbours: smpp/text (octets and parts), transport.py
(sends them).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from junebug.errors import MessageTooLong, Rejected, TransportStartError
from junebug.model.messages import UserMessage
from junebug.smpp import constants as c
from junebug.smpp.pdu import SubmitSm
from junebug.smpp.text import codecs, gsm_safe, multipart
from junebug.transports.smpp import SMPP_TIME
from junebug.transports.smpp.config import Numbering, SmppConfig

LONGEST_SHORT_MESSAGE = 254
"""Octets of a short_message (3.4 §4.4.1); more go into message_payload."""
LONGEST_PAYLOAD = 0xFFFF
"""Octets of a message_payload (3.4 §5.3.2.32)."""
SURELY_SHORT = 1000
"""Characters that fit into the parts that there may be, in any alphabet, wherever they are cut."""
LONGEST_SHORT_CODE = 8
LONGEST_SHOWN = 100
LONGEST_ADDRESS = 200
"""Characters as it is given; SMPP carries 20."""
_PUNCTUATION = re.compile(r"[\s().\-\u2010-\u2015\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
"""Blanks, dashes and the invisible marks with which people write, and programs copy, a number."""
_INTERNATIONAL = re.compile(r"(?:\+|00)([1-9][0-9]+)")
_TRUNK = re.compile(r"((?:\+|00)[1-9][\s0-9]*)\(0\)")
"""As in +27 (0)82: the zero is dialled within the country only."""
_DIALLED = re.compile(r"[*#]*[0-9][0-9*#]*")
_SMPP_TIME = re.compile(SMPP_TIME)


def check(config: Mapping[str, Any], message: UserMessage) -> None:
    """Whether it could be sent, as far as no schema says. Raises MessageTooLong, or Rejected for its channel_data."""
    given, content = message.helper_metadata.get("smpp"), message.content or ""
    if not given and len(content) <= SURELY_SHORT:
        return
    try:
        parsed = SmppConfig.from_config(config)
    except TransportStartError:
        return  # the channel's status tells of it
    options = _options(given)
    if c.MESSAGE_PAYLOAD in _tlvs(options.get("tlvs")) and content:
        raise Rejected("channel_data.smpp.tlvs.message_payload: there is a content beside it")
    try:
        parts_of(content, options, parsed, 0)
    except codecs.UnencodableText:
        pass  # an event tells of it
    except MessageTooLong as error:
        raise MessageTooLong(f"The message content is too long for this channel: {error}") from None


def build(message: UserMessage, config: SmppConfig, reference: int, now: datetime) -> list[SubmitSm]:
    """One or more, in order; `reference` is what the parts have in common. Raises Rejected, naming what is wrong."""
    options = options_of(message)
    try:
        parts, data_coding, _ = parts_of(message.content or "", options, config, reference)
    except codecs.UnencodableText as error:
        raise Rejected(f"Cannot encode the content: {error}") from None
    except MessageTooLong as error:
        raise Rejected(f"Message too long: {error}") from None
    destination, to_addr = _address("to_addr", message.to_addr, config.destination, config)
    source, from_addr = _address("from_addr", message.from_addr or config.default_source_addr, config.source, config)
    tlvs = _tlvs(options.get("tlvs"))
    validity = _validity(options.get("validity_period", config.validity_period), message.expires_at, now)
    return [
        SubmitSm(
            service_type=options.get("service_type", config.service_type),
            source_addr_ton=options.get("source_addr_ton", source.ton),
            source_addr_npi=options.get("source_addr_npi", source.npi), source_addr=from_addr,
            dest_addr_ton=options.get("dest_addr_ton", destination.ton),
            dest_addr_npi=options.get("dest_addr_npi", destination.npi), destination_addr=to_addr,
            esm_class=c.ESM_CLASS_UDHI if part.udhi else 0, protocol_id=options.get("protocol_id", 0),
            priority_flag=options.get("priority_flag", 0),
            schedule_delivery_time=_time(options.get("schedule_delivery_time")),
            validity_period=validity,
            registered_delivery=int(options.get("registered_delivery", config.registered_delivery)),
            data_coding=data_coding, short_message=part.short_message, tlvs={**tlvs, **part.tlvs},
        )
        for part in parts
    ]


# --- the text -----------------------------------------------------------------------------------------------------------


def parts_of(
    content: str, options: Mapping[str, Any], config: SmppConfig, reference: int
) -> tuple[list[multipart.Part], int, str]:
    """(parts, data_coding, codec). Raises UnencodableText, MessageTooLong, and Rejected for an encoding that there is not."""
    most = LONGEST_PAYLOAD * 8 // 7 if config.long_messages == "payload" else multipart.MOST_CHARACTERS
    if len(content) > most:
        raise MessageTooLong(f"{len(content)} characters, {most} at most")
    encoding, data_coding = _encoding(content, options, config)
    if config.gsm_safe:
        content, encoding, data_coding = _safely(content, encoding, data_coding, options, config)
    if config.long_messages != "payload":
        try:
            parts = multipart.parts(content, encoding, reference, sar=config.long_messages == "sar")
            return parts, data_coding, encoding
        except multipart.TooManyParts as error:
            raise MessageTooLong(str(error)) from None
    header = multipart.build_udh(multipart.language_elements(encoding))
    octets = header + codecs.encode_text(content, encoding)
    if len(octets) > LONGEST_PAYLOAD:
        raise MessageTooLong(f"{len(octets)} octets, {LONGEST_PAYLOAD} at most")
    if len(octets) <= LONGEST_SHORT_MESSAGE:
        return [multipart.Part(octets, bool(header), text=content)], data_coding, encoding
    return [multipart.Part(b"", bool(header), {c.MESSAGE_PAYLOAD: octets}, content)], data_coding, encoding


def _safely(
    content: str, encoding: str, data_coding: int, options: Mapping[str, Any], config: SmppConfig
) -> tuple[str, str, int]:
    """(content, codec, data_coding), with what typographers write replaced where the content then fits a shorter alphabet, or at
    all; a text that is UCS-2 anyway stays as it was written.
    """
    is_chosen = not (options.get("encoding") or config.encoding)
    if codecs.codec_name(encoding) != codecs.UCS2 if is_chosen else codecs.fits(content, encoding):
        return content, encoding, data_coding
    safe = gsm_safe.safe(content)
    if not is_chosen:
        return (safe if codecs.fits(safe, encoding) else content), encoding, data_coding
    found, coding = _encoding(safe, options, config)
    if codecs.codec_name(found) == codecs.UCS2:
        return content, encoding, data_coding
    return safe, found, coding


def _encoding(content: str, options: Mapping[str, Any], config: SmppConfig) -> tuple[str, int]:
    """(codec, data_coding)."""
    encoding = options.get("encoding") or config.encoding
    if encoding:
        try:
            data_coding = codecs.data_coding_of(encoding)
        except LookupError:
            raise Rejected(f"channel_data.smpp.encoding: there is no codec {encoding!r}") from None
    else:
        encoding, data_coding = codecs.choose_encoding(content, config.national_language)
    if config.data_coding is not None:
        data_coding = config.data_coding
    return encoding, options.get("data_coding", data_coding)


# --- addresses ----------------------------------------------------------------------------------------------------------


def _address(field: str, address: str | None, configured: Numbering, config: SmppConfig) -> tuple[Numbering, str]:
    if address is not None and len(address) > LONGEST_ADDRESS:
        raise Rejected(f"Invalid {field}: it is {len(address)} characters long")
    numbering, written = configured, address
    if address is not None and config.guess_numbering:
        numbering, written = guess_numbering(address)
    if written is None or not written.isascii() or "\0" in written or (field == "to_addr" and not written):
        raise Rejected(f"Invalid {field}: {address}")
    return numbering, written


def guess_numbering(address: str) -> tuple[Numbering, str]:
    """(type and plan, the address as it is written for these)."""
    address = _without_scheme(address.strip())
    number = _PUNCTUATION.sub("", _TRUNK.sub(r"\1", address))
    international = _INTERNATIONAL.fullmatch(number)
    if international:
        return Numbering(c.TON_INTERNATIONAL, c.NPI_ISDN), international[1]
    if not address:
        return Numbering(c.TON_UNKNOWN, c.NPI_UNKNOWN), address
    if not _DIALLED.fullmatch(number):
        return Numbering(c.TON_ALPHANUMERIC, c.NPI_UNKNOWN), address
    if len(number) <= LONGEST_SHORT_CODE or not number.isdigit():  # a service of the network's, such as *120*1#
        return Numbering(c.TON_NETWORK_SPECIFIC, c.NPI_UNKNOWN), number
    if number.startswith("0"):
        return Numbering(c.TON_NATIONAL, c.NPI_ISDN), number
    return Numbering(c.TON_INTERNATIONAL, c.NPI_ISDN), number


def _without_scheme(address: str) -> str:
    """The number of a tel:, sms: or smsto: URI (RFC 3966, RFC 5724), after the `+...` that it is to be understood in, if any."""
    scheme, colon, rest = address.partition(":")
    if not colon or scheme.lower() not in ("tel", "sms", "smsto"):
        return address
    number, *parameters = unquote(rest).strip().removeprefix("//").split(";")
    contexts = (value for name, _, value in (each.partition("=") for each in parameters) if name.lower() == "phone-context")
    context = next(contexts, "")
    return context + number if context.startswith("+") and not number.startswith("+") else number


# --- channel_data.smpp --------------------------------------------------------------------------------------------------


def options_of(message: UserMessage) -> dict[str, Any]:
    """What the message wants otherwise."""
    return _options(message.helper_metadata.get("smpp"))


def _options(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Without nulls; a whole number is an int, be it written as 1.0."""
    options = {name: value for name, value in (given or {}).items() if value is not None}
    return {name: int(value) if isinstance(value, float) else value for name, value in options.items()}


def _time(value: str | int | None) -> str:
    """Seconds from now, or a time as SMPP writes it."""
    if value is None:
        return ""
    return value if isinstance(value, str) and _SMPP_TIME.fullmatch(value) else relative_time(int(value))


def _validity(wanted: str | int | None, expires_at: str | None, now: datetime) -> str:
    """validity_period: as wanted, but not beyond the time after which the message is worth nothing."""
    written = _time(wanted)
    if expires_at is None or (written and written == wanted):
        return written
    left = max(1, math.ceil((datetime.fromisoformat(expires_at).replace(tzinfo=UTC) - now).total_seconds()))
    return relative_time(left if wanted is None else min(left, int(wanted)))


def relative_time(seconds: int) -> str:
    """So many seconds from when the SMSC gets it (3.4 §7.1.1.2); at most 99 years."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    years, days = divmod(days, 365)
    months, days = divmod(days, 30)
    if months == 12:  # days 360 to 364 of a year
        months, days = 11, days + 30
    return f"{min(years, 99):02}{months:02}{days:02}{hours:02}{minutes:02}{seconds:02}000R"


def _tlvs(given: Mapping[str, Any] | None) -> dict[int, bytes]:
    tlvs = {}
    for name, value in (given or {}).items():
        try:
            tag = c.tlv_tag(name)
            tlvs[tag] = _tlv_value(tag, value)
        except (ValueError, OverflowError) as error:
            raise Rejected(f"channel_data.smpp.tlvs.{name[:LONGEST_SHOWN]}: {error}") from None
    return tlvs


def _tlv_value(tag: int, value: str | float) -> bytes:
    """Text, octets as `hex:0a0b`, or a number as wide as the tag wants."""
    least, most = c.TLV_SIZES.get(tag, (0, 0xFFFF))
    if isinstance(value, str):
        octets = bytes.fromhex(value[4:]) if value.startswith("hex:") else value.encode("latin-1")
    else:
        number = int(value)
        octets = number.to_bytes(max(least, (number.bit_length() + 7) // 8, 1), "big")
    if not least <= len(octets) <= most:
        raise ValueError(f"is {len(octets)} octets long, not {least}..{most}")
    return octets
