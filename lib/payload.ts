import type { FastifyReply } from 'fastify'
import { PassThrough, pipeline, type Readable } from 'node:stream'

/** Whether a payload is a web Response, as Fastify finds one: it need not be Node's own. */
function isResponse(payload: unknown): payload is Response {
  return Object.prototype.toString.call(payload) === '[object Response]'
}

/** The status that a reply with this payload goes out with. */
export function statusOf(reply: FastifyReply, payload: unknown): number {
  return isResponse(payload) ? payload.status : reply.statusCode
}

/**
 * Moves the status and the headers of a web Response to the reply. Fastify would lay them over those of the reply,
 * and ours would be lost.
 */
export function unwrapResponse(reply: FastifyReply, payload: unknown): unknown {
  if (!isResponse(payload) || payload.bodyUsed) return payload
  reply.code(payload.status)
  for (const [name, value] of payload.headers) reply.header(name, value)
  // The Response of node-fetch has a stream of Node as its body, which Fastify sends as it is.
  return isNodeStream(payload.body) ? payload.body : new Response(payload.body, { status: payload.status })
}

/** Ends a stream that nobody will read. Any other payload is left alone: an object of the app may have a `destroy()` of its own. */
export function discard(payload: unknown): void {
  const body: unknown = isResponse(payload) ? payload.body : payload
  if (isNodeStream(body)) {
    // A stream may emit an error because it is destroyed, as the bodies of undici do.
    body.on?.('error', () => {})
    if (typeof body.destroy === 'function') body.destroy()
    else if (typeof body.close === 'function') body.close()
    else body.abort?.()
  } else if (isWebStream(body)) {
    // It rejects where the stream is locked or has failed: then there is nothing to cancel.
    body.cancel().catch(() => {})
  }
}

/**
 * A payload that waits for the commit. Fastify listens to a stream only from the moment it sends it. Until then the stream
 * is ours to guard: an error must not end the process, and a stream that does not wait to be read must not lose a byte.
 */
export class WaitingPayload {
  readonly payload: unknown
  #failure: { readonly error: unknown } | undefined

  constructor(payload: unknown) {
    const body: unknown = isResponse(payload) ? payload.body : payload
    this.payload = payload
    if (!isNodeStream(body)) return
    const fail = (error: unknown): void => { this.#failure ??= { error } }
    body.on?.('error', fail)
    if (body === payload && !waitsToBeRead(body)) {
      this.payload = pipeline(body as unknown as Readable, new PassThrough(), (error) => { if (error) fail(error) })
    }
  }

  /** @throws what the stream has failed with */
  assertIntact(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}

/** A stream as Fastify accepts one: of any age, of any library. */
interface NodeStream {
  pipe(destination: unknown): unknown
  on?(event: 'error', listener: (error: unknown) => void): unknown
  read?(): unknown
  readonly readableFlowing?: boolean | null
  destroy?(): unknown
  close?(): unknown
  abort?(): unknown
}

function isNodeStream(payload: unknown): payload is NodeStream {
  return typeof (payload as Partial<NodeStream> | null | undefined)?.pipe === 'function'
}

function isWebStream(payload: unknown): payload is ReadableStream {
  return typeof (payload as Partial<ReadableStream> | null | undefined)?.getReader === 'function'
}

/** Not so: streams of before Node.js 0.10, which have no `read()`, and those that already flow to somebody else. */
function waitsToBeRead(stream: NodeStream): boolean {
  return typeof stream.read === 'function' && stream.readableFlowing !== true
}
