// The one policy of the page: it lets the addresses of its own workers through, and nothing else.

const policy = globalThis.trustedTypes?.createPolicy("eventstore", {
  createScriptURL(address) {
    if (new URL(address).origin !== location.origin) throw new TypeError(`${address} is not of this page`);
    return address;
  },
});

export function moduleWorker(address) {
  return new Worker(policy ? policy.createScriptURL(address) : address, { type: "module" });
}
