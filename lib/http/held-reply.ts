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
  readonly #released: Promise<void>
  /** What the reply inherits from while nobody holds it. */
  readonly #members: object
  readonly #restore: readonly (() => void)[]
  #end!: () => void

  constructor(reply: FastifyReply, payload: unknown) {
    this.#reply = reply
    this.#payload = new WaitingPayload(payload)
    this.#released = new Promise<void>((resolve) => {
      this.#end = resolve
    })
    this.#members = Object.getPrototypeOf(reply) as object
    this.#restore = [rememberOwn(reply), rememberHead(reply), this.#override()]
  }

  /** Ends a second reply. */
  refuse(late: unknown): FastifyReply {
    const reply = this.#reply
    if (!this.#payload.isOf(late)) discard(late, reply)
    // Fastify's own method: it sees that the reply has been sent, and says so in the log.
    const send = Reflect.get(this.#members, 'send') as (payload: unknown) => FastifyReply
    return send.call(reply, late)
  }

  /** Lets a caller of `await reply` wait until the reply is released. */
  wait(fulfilled: () => void, rejected: (error: Error) => void): void {
    void this.#released.then(() => {
      this.#reply.then(fulfilled, rejected)
    })
  }

  /**
   * Has the reply inherit from members that count it as sent. Own ones in their place would be
   * taken away again, after which the engine takes far longer for all that the reply has.
   */
  #override(): () => void {
    const reply = this.#reply
    const own = overridden
      .filter((name) => Object.hasOwn(reply, name))
      .map((name) => [name, Object.getOwnPropertyDescriptor(reply, name) as object] as const)
    for (const [name] of own) Reflect.deleteProperty(reply, name)
    Reflect.set(reply, holder, this)
    Object.setPrototypeOf(reply, heldMembers(this.#members))
    return () => {
      Object.setPrototypeOf(reply, this.#members)
      for (const [name, descriptor] of own) Object.defineProperty(reply, name, descriptor)
    }
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

/** Where a reply keeps who holds it. */
const holder = Symbol('fastify-holdfast holder')

type Held = FastifyReply & { readonly [holder]: HeldReply }

const overridden = ['sent', 'send', 'then'] as const

/** What held replies inherit from, by what they inherit from otherwise. */
const held = new WeakMap<object, object>()

function heldMembers(members: object): object {
  let made = held.get(members)
  if (made === undefined) {
    made = Object.create(members, {
      sent: { value: true, enumerable: true },
      send: {
        value(this: Held, late: unknown): FastifyReply {
          return this[holder].refuse(late)
        }
      },
      // oxlint-disable-next-line unicorn/no-thenable -- a reply of Fastify is one
      then: {
        value(this: Held, fulfilled: () => void, rejected: (error: Error) => void): void {
          this[holder].wait(fulfilled, rejected)
        }
      }
    }) as object
    held.set(members, made)
  }
  return made
}

type Contents = Record<string, unknown>

/** The symbols of Fastify that were seen. To read the description of one takes far longer. */
const seen = new Set<symbol>()

function isOfFastify(key: symbol): boolean {
  if (seen.has(key)) return true
  const isOne = key.description?.startsWith('fastify.reply.') === true
  if (isOne) seen.add(key)
  return isOne
}

/**
 * Remembers the reply as Fastify keeps it: headers, trailers, status and error are own properties
 * under symbols. Returns a function that restores them.
 */
function rememberOwn(reply: FastifyReply): () => void {
  const own = reply as unknown as Record<symbol, unknown>
  // What other plugins keep on a reply is theirs.
  const keys = Object.getOwnPropertySymbols(reply).filter(isOfFastify)
  const before = keys.map((key) => ({
    key,
    value: own[key],
    contents: isPlain(own[key]) ? copyOf(own[key]) : undefined
  }))
  return () => {
    for (const key of Object.getOwnPropertySymbols(reply)) {
      if (!keys.includes(key) && isOfFastify(key)) delete own[key]
    }
    for (const { key, value, contents } of before) {
      own[key] = value
      if (contents === undefined) continue
      for (const name of Object.keys(value as Contents)) {
        if (!Object.hasOwn(contents, name)) delete (value as Contents)[name]
      }
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
  // Fastify keeps most replies' headers itself, and there are none.
  const headers = raw.getHeaderNames().length === 0 ? {} : copyOf(raw.getHeaders())
  return () => {
    raw.statusCode = statusCode
    // A response of HTTP/2 has none, and reading it prints a warning.
    if (Object.hasOwn(raw, 'statusMessage')) raw.statusMessage = message
    if (raw.headersSent) return
    for (const name of raw.getHeaderNames()) {
      if (!Object.hasOwn(headers, name)) raw.removeHeader(name)
    }
    for (const [name, value] of Object.entries(headers)) {
      if (String(raw.getHeader(name)) !== String(value)) raw.setHeader(name, value as string)
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
  const copy = { ...contents } as Contents
  for (const [name, value] of Object.entries(copy)) {
    if (Array.isArray(value)) copy[name] = [...(value as unknown[])]
  }
  return copy
}
