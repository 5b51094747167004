// Requests that wait until they are told to go on, as one does whose database is slow.

export function openSlow() {
  const waiting = new Map()

  function waitingAs(id) {
    if (!waiting.has(id)) waiting.set(id, { reached: signal(), released: signal() })
    return waiting.get(id)
  }

  return {
    /** Has a request wait until it is released, or until its client has gone. */
    async wait(id, { headers }, reply) {
      const { reached, released } = waitingAs(id)
      waiting.get(id).cookie = headers.cookie
      reply.raw.once('close', released.resolve)
      reached.resolve()
      await released.promise
    },

    /** Settles when the request waits. */
    reached: (id) => waitingAs(id).reached.promise,

    release(id) {
      waiting.get(id)?.released.resolve()
    },

    /** The cookies that the request came with; undefined if there is no such request. */
    cookie: (id) => waiting.get(id)?.cookie
  }
}

function signal() {
  let resolve
  const promise = new Promise((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
