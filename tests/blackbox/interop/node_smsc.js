// An SMSC of node-smpp (npm: smpp). See ../test_smpp_interop.py for what these SMSCs do.
const smpp = require('smpp');

let number = 0;

function header(elements) { // it reads a header into its elements, but writes it as it stands
  const octets = Buffer.concat(elements);
  return Buffer.concat([Buffer.from([octets.length]), octets]);
}

const server = smpp.createServer((session) => {
  session.on('bind_transceiver', (pdu) => {
    const status = pdu.password === 'right' ? smpp.ESME_ROK : smpp.ESME_RINVPASWD;
    session.send(pdu.response({ command_status: status, system_id: 'node-smpp' }));
  });
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => { session.send(pdu.response()); session.close(); });
  session.on('error', () => {});
  session.on('submit_sm', (pdu) => {
    const payload = pdu.short_message.message || pdu.message_payload.message;
    if (String(payload).startsWith('refuse')) {
      session.send(pdu.response({ command_status: smpp.ESME_RINVDSTADR }));
      return;
    }
    const id = `id${++number}x`;
    session.send(pdu.response({ message_id: id }));
    const back = { source_addr: pdu.destination_addr, destination_addr: pdu.source_addr };
    const text = `id:${id} sub:001 dlvrd:001 submit date:1611232145 done date:1611232146 stat:DELIVRD err:000 text:`;
    session.deliver_sm({ ...back, esm_class: 4, short_message: text });
    const echo = { ...back, esm_class: pdu.esm_class, data_coding: pdu.data_coding };
    if (pdu.message_payload) echo.message_payload = pdu.message_payload;
    else if (pdu.short_message.udh) echo.short_message = { udh: header(pdu.short_message.udh), message: payload };
    else echo.short_message = pdu.short_message;
    for (const name of ['sar_msg_ref_num', 'sar_total_segments', 'sar_segment_seqnum']) {
      if (pdu[name] !== undefined) echo[name] = pdu[name];
    }
    session.deliver_sm(echo);
  });
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
