import type { FastifyReply } from 'fastify'
import { PassThrough, pipeline, type Readable } from 'node:stream'

/** Whether a payload is a web Response, as Fastify finds one: it need not be Node's own. */
function isResponse(payload: unknown): payload is Response {
  return Object.prototype.toString.call(payload) === '[object Response]'
}

/** Returns the part of a payload that may be a stream. */
function bodyOf(payload: unknown): unknown {
  return isResponse(payload) ? payload.body : payload
}

/** Returns the status of a reply with this payload. */
export function statusOf(reply: FastifyReply, payload: unknown): number {
  return isResponse(payload) ? payload.status : reply.statusCode
}

/**
 * Ends a stream that nobody will read. Any other payload is left alone: an object of the app may
 * have a `destroy()` of its own.
 */
export function discard(payload: unknown, { request }: FastifyReply): void {
  const body = bodyOf(payload)
  // Destroying the request would destroy the connection, and the reply with it.
  if (body === request.raw) return
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
 * A payload that waits for the commit. Fastify listens to a stream only once it sends it. Until
 * then we do: an error must not end the process, and a stream that does not wait for a reader must
 * not lose a byte.
 */
export class WaitingPayload {
  readonly #payload: unknown
  #buffered: unknown
  #failure: { readonly error: unknown } | undefined
  #release: (() => void) | undefined

  constructor(payload: unknown) {
    this.#payload = payload
    const body = bodyOf(payload)
    if (!isNodeStream(body) || body.on === undefined) return
    const fail = (error: unknown): void => {
      this.#failure ??= { error }
    }
    body.on('error', fail)
    if (body !== payload) return
    const buffer = (): void => {
      this.#buffered ??= pipeline(body as unknown as Readable, new PassThrough(), (error) => {
        if (error) fail(error)
      })
    }
    if (isFlowing(body)) buffer()
    // Before its first byte: somebody else may begin to read it.
    body.on('resume', buffer)
    this.#release = () => {
      body.removeListener?.('resume', buffer)
    }
  }

  /** Returns what to send in its place. */
  get payload(): unknown {
    return this.#buffered ?? this.#payload
  }

  /** Whether another payload is this one, or has the same body. */
  isOf(other: unknown): boolean {
    return (
      other === this.#payload ||
      (bodyOf(other) !== undefined && bodyOf(other) === bodyOf(this.#payload))
    )
  }

  /** Leaves the stream to Fastify, which reads it from now on. */
  release(): void {
    this.#release?.()
  }

  /** @throws the error of the stream, if it failed */
  assertIntact(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}

/** A stream as Fastify accepts one: of any age, of any library. */
interface NodeStream {
  pipe(destination: unknown): unknown
  on?(event: 'error' | 'resume', listener: (error: unknown) => void): unknown
  removeListener?(event: 'resume', listener: () => void): unknown
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

/**
 * Whether a stream emits data without being asked: streams from before Node.js 0.10, which have no
 * `read()`, and streams that somebody already reads.
 */
function isFlowing(stream: NodeStream): boolean {
  return typeof stream.read !== 'function' || stream.readableFlowing === true
}
