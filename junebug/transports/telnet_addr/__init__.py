"""Channel type `telnet_addr`: telnet whose client first says which addresses it stands for. The light part."""

from junebug.registry import ChannelType
from junebug.transports.telnet import CONFIG_SCHEMA

CHANNEL_TYPE = ChannelType(
    name="telnet_addr",
    transport="junebug.transports.telnet_addr.transport:AddressedTelnetTransport",
    config_schema=CONFIG_SCHEMA,
    check="junebug.transports.telnet.protocol:check",
    host_bound=True,
)
