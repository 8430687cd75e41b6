"""An SMSC of smpp-twisted3 (PyPI). See ../test_smpp_interop.py for what these SMSCs do."""

import itertools
import sys

from smpp.pdu.operations import DeliverSM
from smpp.pdu.pdu_types import CommandStatus, EsmClass, EsmClassMode, EsmClassType
from smpp.twisted.config import SMPPServerConfig
from smpp.twisted.protocol import DataHandlerResponse
from smpp.twisted.server import SMPPServerFactory
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet import defer, reactor
from zope.interface import implementer

numbers = itertools.count(1)


@implementer(IRealm)
class Realm:
    def requestAvatar(self, avatar_id, mind, *interfaces):
        return interfaces[0], avatar_id, lambda: None


def on_pdu(system_id, protocol, pdu):
    if pdu.params.get("short_message", b"").startswith(b"refuse"):
        return CommandStatus.ESME_RINVDSTADR
    message_id = f"id{next(numbers)}x"
    back = {"source_addr": pdu.params["destination_addr"], "destination_addr": pdu.params["source_addr"]}
    text = f"id:{message_id} sub:001 dlvrd:001 submit date:1611232145 done date:1611232146 stat:DELIVRD err:000 text:"
    receipt = EsmClass(EsmClassMode.DEFAULT, EsmClassType.SMSC_DELIVERY_RECEIPT)
    reactor.callLater(0, protocol.sendDataRequest, DeliverSM(**back, esm_class=receipt, short_message=text.encode()))
    kept = ("esm_class", "data_coding", "short_message", "message_payload", "sar_msg_ref_num", "sar_total_segments",
            "sar_segment_seqnum")  # fmt: skip
    echo = {name: pdu.params[name] for name in kept if pdu.params.get(name) is not None}
    reactor.callLater(0, protocol.sendDataRequest, DeliverSM(**back, **echo))
    return DataHandlerResponse(status=CommandStatus.ESME_ROK, message_id=message_id.encode())


@implementer(ICredentialsChecker)
class Passwords:
    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials):
        return defer.succeed("esme") if credentials.password == "right" else defer.fail(UnauthorizedLogin())


config = SMPPServerConfig(msgHandler=on_pdu, systems={"esme": {"max_bindings": 5}})
portal = Portal(Realm(), [Passwords()])
reactor.listenTCP(int(sys.argv[1]), SMPPServerFactory(config, portal), interface="127.0.0.1")
reactor.callWhenRunning(lambda: print("ready", flush=True))
reactor.run()
