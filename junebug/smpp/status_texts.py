"""What a command_status means, in words for people (SMPP 3.4 §5.1.3). Neighbour: constants.py has the names."""

from __future__ import annotations

_TEXTS = {
    "ESME_RINVMSGLEN": "invalid message length", "ESME_RINVCMDLEN": "invalid command length",
    "ESME_RINVCMDID": "invalid command", "ESME_RINVBNDSTS": "not allowed by this kind of bind",
    "ESME_RALYBND": "bound already", "ESME_RINVPRTFLG": "invalid priority_flag",
    "ESME_RINVREGDLVFLG": "invalid registered_delivery", "ESME_RSYSERR": "system error at the provider",
    "ESME_RINVSRCADR": "invalid source address", "ESME_RINVDSTADR": "invalid destination address",
    "ESME_RINVMSGID": "invalid message id", "ESME_RBINDFAIL": "bind failed", "ESME_RINVPASWD": "invalid password",
    "ESME_RINVSYSID": "invalid system_id", "ESME_RMSGQFUL": "the provider's queue is full",
    "ESME_RINVSERTYP": "invalid service_type", "ESME_RINVESMCLASS": "invalid esm_class",
    "ESME_RSUBMITFAIL": "the submission failed", "ESME_RINVSRCTON": "invalid source TON", "ESME_RINVSRCNPI": "invalid source NPI",
    "ESME_RINVDSTTON": "invalid destination TON", "ESME_RINVDSTNPI": "invalid destination NPI",
    "ESME_RINVSYSTYP": "invalid system_type", "ESME_RTHROTTLED": "too much is sent", "ESME_RINVSCHED": "invalid schedule time",
    "ESME_RINVEXPIRY": "invalid validity_period", "ESME_RX_T_APPN": "a temporary error of the receiver",
    "ESME_RX_P_APPN": "a permanent error of the receiver", "ESME_RX_R_APPN": "the receiver rejects it",
    "ESME_RINVOPTPARSTREAM": "invalid optional parameters", "ESME_RINVOPTPARAMVAL": "an optional parameter's value is invalid",
    "ESME_RDELIVERYFAILURE": "delivery failed", "ESME_RUNKNOWNERR": "an unknown error",
}  # fmt: skip


def with_text(status: str) -> str:
    """`ESME_RINVDSTADR (invalid destination address)`; one that no specification knows as it is."""
    text = _TEXTS.get(status)
    return f"{status} ({text})" if text else status
