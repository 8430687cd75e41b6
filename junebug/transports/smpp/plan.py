"""How an MT would leave: which alphabet and why, in which parts, by the code that sends it (mt.py). Pure; for the API's dry run.

Neighbours: model/plan.py has the shape, smpp/text/gsm_safe.py what `gsm_safe` replaces.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from junebug.errors import Rejected, TransportStartError
from junebug.model.messages import UserMessage
from junebug.model.plan import MOST_TOLD, Encoding, Forcing, Header, Part, Plan, Replacement
from junebug.smpp import constants as c
from junebug.smpp.pdu import SubmitSm
from junebug.smpp.text import codecs, gsm_safe, multipart
from junebug.smpp.text.gsm import alphabet
from junebug.transports.smpp import mt
from junebug.transports.smpp.config import SmppConfig

_SAID = {codecs.UCS2: "ucs2"}


def plan(config: Mapping[str, Any], message: UserMessage) -> Plan:
    """Never raises."""
    try:
        parsed = SmppConfig.from_config(config)
    except TransportStartError as error:
        return Plan(rejected=f"The channel does not run: config.{error}")
    pace = parsed.mt_tps or None
    if not parsed.can_send:
        return Plan(rejected="This channel's bind_mode is receiver: it cannot send", pace=pace)
    try:
        pdus = mt.build(message, parsed, 0, datetime.now(UTC))
    except Rejected as error:
        return Plan(rejected=error.reason, pace=pace)
    content, options = message.content or "", mt.options_of(message)
    parts, data_coding, codec = mt.parts_of(content, options, parsed, 0)
    replaced = _replaced(content) if "".join(part.text for part in parts) != content else ()
    return Plan(
        _encoding(content, codec, data_coding, options, parsed, is_replaced=bool(replaced)),
        tuple(_part(part, pdu) for part, pdu in zip(parts, pdus, strict=True)),
        replaced, () if parsed.gsm_safe else _would_replace(content, options, parsed), pace=pace,
    )  # fmt: skip


def _part(part: multipart.Part, pdu: SubmitSm) -> Part:
    header: Header | None = None
    if c.MESSAGE_PAYLOAD in part.tlvs:
        header = "payload"
    elif c.SAR_TOTAL_SEGMENTS in part.tlvs:
        header = "sar"
    elif part.udhi and multipart.parse_udh(part.short_message)[0].concatenation:
        header = "udh"
    octets = pdu.tlvs.get(c.MESSAGE_PAYLOAD, b"") or pdu.short_message
    return Part(part.text, len(part.text), len(octets), header)


def _encoding(
    content: str, codec: str, data_coding: int, options: Mapping[str, Any], config: SmppConfig, *, is_replaced: bool
) -> Encoding:
    codec = codecs.codec_name(codec)
    sent = gsm_safe.safe(content) if is_replaced else content
    forced_by = () if is_replaced else _forcing(content, config.national_language) or _forcing(content)
    extended = 0
    if options.get("encoding"):
        reason, forced_by = "channel_data.smpp.encoding says so", ()
    elif config.encoding:
        reason, forced_by = "the channel's option submit_sm_encoding says so", ()
    elif codec == codecs.UCS2:
        first = forced_by[0]
        more = f", nor {len(forced_by) - 1} more characters" if len(forced_by) > 1 else ""
        reason = f"GSM 03.38 has no {first.code_point} ({first.character}, at position {first.position}){more}"
    elif codec != codecs.GSM:
        reason = f"the tables of {config.national_language} have what GSM 03.38 has not"
    else:
        reason = "GSM 03.38 has every character" + (" after the replacements of gsm_safe" if is_replaced else "")
    if codec.startswith(codecs.GSM):
        extended = len(alphabet(*codecs.national_languages(codec)).encode(sent)) - len(sent)
        reason += f"; {extended} of them take two places each" if extended else ""
    if "data_coding" in options or config.data_coding is not None:
        reason += "; data_coding is set by " + ("channel_data" if "data_coding" in options else "submit_sm_data_coding")
    return Encoding(_SAID.get(codec, codec), data_coding, reason, forced_by, extended)


def _forcing(content: str, language: str | None = None) -> tuple[Forcing, ...]:
    """The characters that GSM 03.38 has not, nor the tables of this language."""
    found: dict[str, int] = {}
    seen: set[str] = set()
    for position, character in enumerate(content):
        if character in seen:
            continue
        seen.add(character)
        if codecs.choose_encoding(character, language)[0] == codecs.UCS2:
            found[character] = position
            if len(found) == MOST_TOLD:
                break
    return tuple(Forcing(character, f"U+{ord(character):04X}", position) for character, position in found.items())


def _replaced(content: str) -> tuple[Replacement, ...]:
    return tuple(
        Replacement(character, gsm_safe.REPLACEMENTS[character], tuple(positions[:MOST_TOLD]))
        for character, positions in list(gsm_safe.found_in(content).items())[:MOST_TOLD]
    )


def _would_replace(content: str, options: Mapping[str, Any], config: SmppConfig) -> tuple[Replacement, ...]:
    parts, _, _ = mt.parts_of(content, options, dataclasses.replace(config, gsm_safe=True), 0)
    return _replaced(content) if "".join(part.text for part in parts) != content else ()
