import type { FastifyReply } from 'fastify'

/** Headers that caches set above Cache-Control: those aimed at some of them (RFC 9213), Surrogate-Control (Edge Architecture), and nginx's own. */
function isAimed(name: string): boolean {
  return name.endsWith('-cache-control') || name === 'surrogate-control' || name === 'x-accel-expires'
}

function takeOffAimed(reply: FastifyReply): void {
  for (const name of Object.keys(reply.getHeaders())) {
    if (isAimed(name)) reply.removeHeader(name)
  }
}

/** Keeps a reply that carries an id out of shared caches (RFC 9111, 5.2.2): `private`, and nothing that says otherwise. */
export function keepPrivate(reply: FastifyReply): void {
  takeOffAimed(reply)
  const directives = listed(reply, 'cache-control').filter((directive) => !/^(?:public|s-maxage=.*)$/i.test(directive))
  if (!directives.some((directive) => /^(?:private|no-store)$/i.test(directive))) directives.push('private')
  reply.header('cache-control', directives.join(', '))
}

/** Tells caches that the reply depends on these request headers (RFC 9110, 12.5.5). */
export function vary(reply: FastifyReply, names: readonly string[]): void {
  const present = listed(reply, 'vary')
  if (present.includes('*')) return
  const missing = names.filter((name) => !present.some((other) => other.toLowerCase() === name.toLowerCase()))
  if (missing.length > 0) reply.header('vary', [...present, ...missing].join(', '))
}

const ofSuccess = [
  'cache-control', 'expires', 'age', 'etag', 'last-modified', 'location',
  'content-location', 'content-language', 'content-encoding', 'content-disposition', 'content-range', 'accept-ranges'
]

/** Takes off what was meant for a success that did not come. */
export function takeOffSuccess(reply: FastifyReply, sessionHeader: string | false): void {
  for (const name of ofSuccess) reply.removeHeader(name)
  takeOffAimed(reply)
  if (sessionHeader !== false) reply.removeHeader(sessionHeader)
  // Another registration may have put its id on this reply.
  if (reply.hasHeader('set-cookie')) keepPrivate(reply)
}

function listed(reply: FastifyReply, name: string): string[] {
  const value = reply.getHeader(name)
  if (value === undefined) return []
  return String(value).split(',').map((part) => part.trim()).filter((part) => part !== '')
}
