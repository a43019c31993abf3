// Clients of MLMD's service, by its .proto files: over gRPC, and over gRPC-Web as in a browser.
'use strict';

const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const web = require('grpc-web');

global.XMLHttpRequest = require('xhr2');

const SERVICE = 'ml_metadata.MetadataStoreService';
const OWN_SERVICE = 'eventstore.EventStoreService';

// The folder has the sources by the names under which they import each other.
function methods(folder) {
  const file = 'ml_metadata/proto/metadata_store_service.proto';
  const options = { keepCase: true, longs: Number, enums: String, includeDirs: [folder] };
  return loader.loadSync(file, options)[SERVICE];
}

// An object with an asynchronous function for each RPC; what fails rejects with `code` and `details`.
function client(kind, address, folder) {
  const known = methods(folder);
  const made = {};
  if (kind === 'grpc') {
    const Stub = grpc.makeGenericClientConstructor(known, SERVICE);
    const stub = new Stub(address, grpc.credentials.createInsecure());
    for (const name of Object.keys(known)) {
      made[name] = (request) =>
        new Promise((resolve, reject) =>
          stub[name](request, (error, response) => (error ? reject(error) : resolve(response))));
    }
    return made;
  }
  const base = new web.GrpcWebClientBase({ format: kind === 'grpc-web-text' ? 'text' : 'binary' });
  for (const [name, method] of Object.entries(known)) {
    const described = new web.MethodDescriptor(
      method.path, web.MethodType.UNARY, Object, Object,
      method.requestSerialize, method.responseDeserialize);
    made[name] = async (request) => {
      try {
        return await base.unaryCall(`http://${address}${method.path}`, request, {}, described);
      } catch (error) {
        throw Object.assign(error, { details: error.message });
      }
    };
  }
  return made;
}

// The parts of an answer of the service of this project's own, as they come.
function streamed(kind, address, folder, rpc, request) {
  const file = 'eventstore/proto/eventstore_service.proto';
  const service = loader.loadSync(file, { keepCase: true, includeDirs: [folder] })[OWN_SERVICE];
  const method = service[rpc];
  const serialize = method.responseSerialize;
  if (kind === 'grpc') {
    const Stub = grpc.makeGenericClientConstructor(service, OWN_SERVICE);
    const stub = new Stub(address, grpc.credentials.createInsecure());
    return { parts: stub[rpc](request), serialize };
  }
  const base = new web.GrpcWebClientBase({ format: 'text' });
  const described = new web.MethodDescriptor(
    method.path, web.MethodType.SERVER_STREAMING, Object, Object,
    method.requestSerialize, method.responseDeserialize);
  const url = `http://${address}${method.path}`;
  return { parts: base.serverStreaming(url, request, {}, described), serialize };
}

// A line of output. It is out when this returns: a program that ends does not wait for its pipe.
function say(line) {
  fs.writeSync(1, `${line}\n`);
}

module.exports = { client, methods, say, streamed };
