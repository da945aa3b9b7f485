// A JsSIP phone without media: registers over WSS, sends and receives messages.
// Reads commands, one JSON object a line; prints what happens, likewise.
//   node phone.js WSS-URL ADDRESS PASSWORD
'use strict';
const readline = require('readline');
const WebSocket = require('ws');
const JsSIP = require('jssip');

globalThis.WebSocket = WebSocket;
globalThis.window = globalThis;

const [url, address, password] = process.argv.slice(2);
const say = (event, more) => console.log(JSON.stringify({ event, ...more }));

const phone = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(url)],
  uri: 'sip:' + address,
  password,
  register_expires: 300,
  session_timers: false,
});

phone.on('connected', () => say('connected'));
phone.on('disconnected', (e) => say('disconnected', { cause: String(e && e.reason) }));
phone.on('registered', () => say('registered'));
phone.on('unregistered', () => say('unregistered'));
phone.on('registrationFailed', (e) => say('refused', { cause: e.cause, status: e.response && e.response.status_code }));
phone.on('newMessage', ({ originator, message, request }) => {
  if (originator === 'remote') {
    say('message', { from: request.from.uri.toString(), text: request.body });
    message.accept();
  }
});

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const c = JSON.parse(line);
  if (c.send) {
    phone.sendMessage('sip:' + c.send, c.text, {
      eventHandlers: {
        succeeded: (e) => say('sent', { status: e.response.status_code }),
        failed: (e) => say('failed', { cause: e.cause, status: e.response && e.response.status_code }),
      },
    });
  } else if (c.stop) {
    phone.unregister({ all: true });
    setTimeout(() => { phone.stop(); setTimeout(() => process.exit(0), 300); }, 500);
  }
});

phone.start();
