"""Junebug: a text-messaging gateway, one REST API in front of SMS, USSD, XMPP, IRC, Twitter and telnet."""

__version__ = "1.0.0"
