// What has changed in a store, by a service of this project's own that answers in parts. Each line
// that goes out is a part, serialized again.
'use strict';

const { streamed, say } = require('./stubs.js');

const [kind, address, folder, values] = process.argv.slice(2);

const stream = streamed(kind, address, folder, 'Changes', { values: Buffer.from(values, 'base64') });
stream.parts.on('data', (part) => say(stream.serialize(part).toString('base64')));
stream.parts.on('error', (error) => {
  console.error(error);
  process.exit(1);
});
stream.parts.on('end', () => process.exit(0));
