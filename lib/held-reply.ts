import type { FastifyReply } from 'fastify'

import { discard, WaitingPayload } from './payload.ts'

/**
 * A reply that waits for its commit. Fastify counts a reply as sent once it has been written, and until then lets the next hook,
 * the handler, a time-out or a second `send()` go on and overtake it. From here to `release()` the reply counts as sent:
 * - Fastify runs no further hook and no handler, and refuses another reply with its own warning;
 * - what the late code does to status, headers and trailers is undone, and a stream that it sends is destroyed;
 * - `await reply` waits for the end of the response, as it always does.
 */
export class HeldReply {
  readonly #reply: FastifyReply
  readonly #payload: WaitingPayload
  readonly #status: number
  readonly #headers: Headers
  readonly #restoreMembers: () => void
  #end!: () => void

  constructor(reply: FastifyReply, payload: unknown) {
    const released = new Promise<void>((resolve) => { this.#end = resolve })
    const ignore = (): FastifyReply => reply
    this.#reply = reply
    this.#payload = new WaitingPayload(payload)
    this.#status = reply.statusCode
    this.#headers = headersOf(reply)
    this.#restoreMembers = override(reply, {
      sent: { value: true, enumerable: true },
      send: {
        value(late: unknown): FastifyReply {
          discard(late)
          // Fastify sees that the reply has been sent, and says so in the log.
          return sendOf(reply).call(reply, late) as FastifyReply
        }
      },
      trailer: { value: ignore },
      removeTrailer: { value: ignore },
      // oxlint-disable-next-line unicorn/no-thenable -- a reply of Fastify is one
      then: {
        value(fulfilled: () => void, rejected: (error: Error) => void): void {
          void released.then(() => { reply.then(fulfilled, rejected) })
        }
      }
    })
  }

  /** Lets the reply go on as it was when it was held. */
  release(): void {
    const reply = this.#reply
    this.#restoreMembers()
    if (reply.statusCode !== this.#status) reply.code(this.#status)
    const present = reply.getHeaders()
    for (const name of Object.keys(present)) {
      if (!Object.hasOwn(this.#headers, name)) reply.removeHeader(name)
    }
    for (const [name, value] of Object.entries(this.#headers)) {
      if (String(present[name]) !== String(value)) reply.removeHeader(name).header(name, value)
    }
    this.#end()
  }

  /** What to send in the end. */
  get payload(): unknown {
    return this.#payload.payload
  }

  /** @throws what the stream of the payload failed with in the meantime, as Fastify would have been told */
  assertPayload(): void {
    this.#payload.assertIntact()
  }
}

type Headers = ReturnType<FastifyReply['getHeaders']>

/** The headers as they are now: Fastify adds cookies to the list that is already there. */
function headersOf(reply: FastifyReply): Headers {
  const headers = reply.getHeaders()
  for (const [name, value] of Object.entries(headers)) {
    if (Array.isArray(value)) headers[name] = [...value]
  }
  return headers
}

/** What `reply.send` is where nothing stands before it. */
function sendOf(reply: FastifyReply): (payload: unknown) => unknown {
  return Reflect.get(Object.getPrototypeOf(reply) as object, 'send') as (payload: unknown) => unknown
}

/** Puts members before those that an object has. Answers how to take them away again. */
function override(target: object, members: Readonly<Record<string, PropertyDescriptor>>): () => void {
  const before = Object.keys(members).map((name) => [name, Object.getOwnPropertyDescriptor(target, name)] as const)
  for (const [name, member] of Object.entries(members)) Object.defineProperty(target, name, { ...member, configurable: true })
  return () => {
    for (const [name, own] of before) {
      if (own === undefined) Reflect.deleteProperty(target, name)
      else Object.defineProperty(target, name, own)
    }
  }
}
