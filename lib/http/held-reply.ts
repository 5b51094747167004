import type { FastifyReply } from 'fastify'

import { discard, WaitingPayload } from './held-payload.ts'

/** Continues Fastify's onSend hooks, with an error or a payload. */
export type Done = (error: Error | null, payload?: unknown) => void

/**
 * A reply that waits for its commit. Fastify counts a reply as sent once it has been written, and
 * until then lets the next hook, the handler, a time-out or a second `send()` go on and overtake
 * it. Until `goOn()` the reply counts as sent:
 * - Fastify runs no further hook and no handler, and refuses another reply with its own warning;
 * - what late code does to status, headers and trailers is undone, and a stream that it sends is
 *   destroyed;
 * - `await reply` waits for the end of the response, as it always does.
 *
 * What late code does by `reply.raw.write()`, `writeHead()` and `end()` goes past Fastify, and past
 * this.
 */
export class HeldReply {
  readonly #reply: FastifyReply
  readonly #payload: WaitingPayload
  readonly #restore: readonly (() => void)[]
  #end!: () => void

  constructor(reply: FastifyReply, payload: unknown) {
    const released = new Promise<void>((resolve) => {
      this.#end = resolve
    })
    this.#reply = reply
    this.#payload = new WaitingPayload(payload)
    this.#restore = [
      rememberOwn(reply),
      rememberHead(reply),
      override(reply, {
        sent: { value: true, enumerable: true },
        send: { value: (late: unknown) => this.refuse(late) },
        // oxlint-disable-next-line unicorn/no-thenable -- a reply of Fastify is one
        then: {
          value(fulfilled: () => void, rejected: (error: Error) => void): void {
            void released.then(() => {
              reply.then(fulfilled, rejected)
            })
          }
        }
      })
    ]
  }

  /** Ends a second reply. */
  refuse(late: unknown): FastifyReply {
    const reply = this.#reply
    if (!this.#payload.isOf(late)) discard(late, reply)
    // Fastify's own method: it sees that the reply has been sent, and says so in the log.
    const send = Reflect.get(Object.getPrototypeOf(reply) as object, 'send') as (
      payload: unknown
    ) => FastifyReply
    return send.call(reply, late)
  }

  /**
   * Releases the reply as it was when it was held, settles what the commit came to, and goes on in
   * this very step: nobody can reply in between. A stream that failed in the meantime, or an error
   * in settling, is handed to Fastify.
   */
  goOn(settle: () => void, done: Done): void {
    try {
      for (const restore of this.#restore) restore()
      this.#payload.release()
      this.#end()
      settle()
      this.#payload.assertIntact()
      done(null, this.#payload.payload)
    } catch (error) {
      done(error as Error)
    }
  }
}

type Contents = Record<string, unknown>

/**
 * Remembers the reply as Fastify keeps it: headers, trailers, status and error are own properties
 * under symbols. Returns a function that restores them.
 */
function rememberOwn(reply: FastifyReply): () => void {
  const own = reply as unknown as Record<symbol, unknown>
  // Other plugins may keep properties of their own on a reply, and change them.
  const keys = Object.getOwnPropertySymbols(reply).filter(({ description }) =>
    description?.startsWith('fastify.reply.')
  )
  const before = keys.map((key) => ({
    key,
    value: own[key],
    contents: isPlain(own[key]) ? copyOf(own[key]) : undefined
  }))
  return () => {
    for (const { key, value, contents } of before) {
      own[key] = value
      if (contents === undefined) continue
      for (const name of Object.keys(value as Contents)) delete (value as Contents)[name]
      Object.assign(value as Contents, contents)
    }
  }
}

/**
 * What stands on the response itself: Fastify reads the status from it, and lays its headers over
 * those.
 */
function rememberHead({ raw }: FastifyReply): () => void {
  const { statusCode } = raw
  const message = Object.getOwnPropertyDescriptor(raw, 'statusMessage')?.value as string
  const headers = copyOf(raw.getHeaders())
  return () => {
    raw.statusCode = statusCode
    // A response of HTTP/2 has none, and reading it prints a warning.
    if (Object.hasOwn(raw, 'statusMessage')) raw.statusMessage = message
    if (raw.headersSent) return
    const present = raw.getHeaders()
    for (const name of Object.keys(present)) {
      if (!Object.hasOwn(headers, name)) raw.removeHeader(name)
    }
    for (const [name, value] of Object.entries(headers)) {
      if (String(present[name]) !== String(value)) raw.setHeader(name, value as string)
    }
  }
}

function isPlain(value: unknown): value is Contents {
  return (
    typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype
  )
}

/** Lists are copied too: Fastify adds a cookie to the list that is there. */
function copyOf(contents: object): Contents {
  return Object.fromEntries(
    Object.entries(contents).map(([name, value]) => [
      name,
      Array.isArray(value) ? [...(value as unknown[])] : value
    ])
  )
}

/** Overrides members of an object. Returns a function that takes them away again. */
function override(
  target: object,
  members: Readonly<Record<string, PropertyDescriptor>>
): () => void {
  const before = Object.keys(members).map(
    (name) => [name, Object.getOwnPropertyDescriptor(target, name)] as const
  )
  for (const [name, member] of Object.entries(members))
    Object.defineProperty(target, name, { ...member, configurable: true })
  return () => {
    for (const [name, own] of before) {
      if (own === undefined) Reflect.deleteProperty(target, name)
      else Object.defineProperty(target, name, own)
    }
  }
}
