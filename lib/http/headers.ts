import type { FastifyReply } from 'fastify'
import type { ServerResponse } from 'node:http'

/** Header fields of a reply, by names in lower case. */
export interface HeaderFields {
  getHeaders(): object
  getHeader(name: string): unknown
  header(name: string, value: string | string[]): unknown
  removeHeader(name: string): unknown
}

/**
 * Whether a header overrides Cache-Control for some caches: targeted headers (RFC 9213),
 * Surrogate-Control, Edge-Control, and nginx's own.
 */
function isTargeted(name: string): boolean {
  return (
    name.endsWith('-cache-control') ||
    name === 'surrogate-control' ||
    name === 'edge-control' ||
    name === 'x-accel-expires'
  )
}

function removeTargetedCacheControl(fields: HeaderFields): void {
  const present = fields.getHeaders()
  for (const name in present) {
    if (isTargeted(name)) fields.removeHeader(name)
  }
}

/**
 * Keeps a reply with an id out of shared caches (RFC 9111, 5.2.2): sets `private`, and removes what
 * contradicts it.
 */
export function keepPrivate(fields: HeaderFields): void {
  removeTargetedCacheControl(fields)
  setPrivate(fields)
}

/** Sets `private`, whatever else a reply may say to caches. */
export function setPrivate(fields: HeaderFields): void {
  const before = fields.getHeader('cache-control')
  if (before === 'private') return
  if (before === undefined) {
    fields.header('cache-control', 'private')
    return
  }
  const directives = splitList(fields, 'cache-control').filter(
    (directive) => !/^(?:public|s-maxage=.*)$/i.test(directive)
  )
  if (!directives.some((directive) => /^(?:private|no-store)$/i.test(directive)))
    directives.push('private')
  fields.header('cache-control', directives.join(', '))
}

/** Names of request headers, and the same as Vary has them. */
export interface VaryNames {
  readonly names: readonly string[]
  readonly text: string
}

/** Says to caches that the reply depends on these request headers (RFC 9110, 12.5.5). */
export function vary(fields: HeaderFields, { names, text }: VaryNames): void {
  const before = fields.getHeader('vary')
  if (before === text) return
  if (before === undefined) {
    fields.header('vary', text)
    return
  }
  const present = splitList(fields, 'vary')
  if (present.includes('*')) return
  const missing = names.filter(
    (name) => !present.some((other) => other.toLowerCase() === name.toLowerCase())
  )
  if (missing.length > 0) fields.header('vary', [...present, ...missing].join(', '))
}

const successHeaders = [
  'cache-control',
  'expires',
  'age',
  'etag',
  'last-modified',
  'location',
  'content-location',
  'content-language',
  'content-encoding',
  'content-disposition',
  'content-range',
  'accept-ranges'
]

/** Removes the headers and trailers of a success that did not come. */
export function removeSuccessHeaders(reply: FastifyReply): void {
  for (const name of successHeaders) reply.removeHeader(name)
  removeTargetedCacheControl(reply)
  for (const name of trailersOf(reply)) reply.removeTrailer(name)
  // Another registration may have put its id on this reply.
  if (reply.hasHeader('set-cookie')) keepPrivate(reply)
}

/**
 * Returns the names of a reply's trailers. Fastify has no public list of them. If it keeps them
 * elsewhere one day, none are found.
 */
function trailersOf(reply: FastifyReply): string[] {
  const own = reply as unknown as Record<symbol, object | null>
  const keys = Object.getOwnPropertySymbols(reply).filter(
    ({ description }) => description === 'fastify.reply.trailers'
  )
  return keys.flatMap((key) => Object.keys(own[key] ?? {}))
}

function splitList(fields: HeaderFields, name: string): string[] {
  return String(fields.getHeader(name))
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

/**
 * Has the last word on the header fields of a reply: calls `change` when the head is about to be
 * written, after every hook of every plugin, whether Fastify or the app itself writes it.
 */
export function beforeHead({ raw }: FastifyReply, change: (fields: HeaderFields) => void): void {
  const writeHead = Reflect.get(raw, 'writeHead') as (...head: unknown[]) => ServerResponse
  raw.writeHead = (...head: unknown[]) => {
    change(new Head(raw, head))
    return writeHead.apply(raw, head)
  }
}

/**
 * The fields of a head that is being written. Those given with it override those of the response.
 */
class Head implements HeaderFields {
  readonly #raw: ServerResponse
  /** The arguments of writeHead(status, message?, fields?). */
  readonly #head: unknown[]
  #given: Record<string, unknown> | undefined

  constructor(raw: ServerResponse, head: unknown[]) {
    this.#raw = raw
    this.#head = head
    const last = head.at(-1)
    if (typeof last !== 'object' || last === null) return
    if (Array.isArray(last) || Object.keys(last).some((name) => /[A-Z]/.test(name)))
      this.#replace(fieldsOf(last))
    else this.#given = last as Record<string, unknown>
  }

  getHeaders(): object {
    // Fastify gives most heads as a whole, and sets nothing on the response.
    return this.#given !== undefined && this.#raw.getHeaderNames().length === 0
      ? this.#given
      : { ...this.#raw.getHeaders(), ...this.#given }
  }

  getHeader(name: string): unknown {
    return this.#given?.[name] ?? this.#raw.getHeader(name)
  }

  header(name: string, value: string | string[]): void {
    this.removeHeader(name)
    this.#raw.setHeader(name, value)
  }

  removeHeader(name: string): void {
    this.#raw.removeHeader(name)
    if (this.#given?.[name] === undefined) return
    // The object may be the app's, and serve its next reply too: it must not change.
    const { [name]: _, ...others } = this.#given
    this.#replace(others)
  }

  #replace(fields: Record<string, unknown>): void {
    this.#given = fields
    this.#head[this.#head.length - 1] = fields
  }
}

/**
 * Returns header fields by their names in lower case. `writeHead` takes them as an object, as a
 * list of names and values, or as a list of pairs.
 */
function fieldsOf(given: object): Record<string, unknown> {
  const list = Array.isArray(given) ? given : Object.entries(given)
  const flat = list.flat(Array.isArray(list[0]) ? 1 : 0) as unknown[]
  const fields: Record<string, unknown> = {}
  for (let index = 0; index < flat.length; index += 2) {
    const name = String(flat[index]).toLowerCase()
    const value = flat[index + 1]
    fields[name] = fields[name] === undefined ? value : [fields[name], value].flat()
  }
  return fields
}
