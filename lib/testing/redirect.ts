import type { InjectOptions, LightMyRequestResponse } from 'fastify'

const statuses = new Set([301, 302, 303, 307, 308])

/** Tells of a body, which the next request does not have. */
const bodyHeader = /^(?:content-(?:encoding|language|length|location|type)|transfer-encoding)$/i

/**
 * The request that a browser sends after a reply (Fetch, 4.4). Undefined if the reply redirects to
 * nothing, or to another origin.
 */
export function afterRedirect(
  request: InjectOptions,
  reply: LightMyRequestResponse
): InjectOptions | undefined {
  const { statusCode, headers } = reply
  if (!statuses.has(statusCode) || headers.location === undefined) return undefined
  const { url: from, headers: sent } = reply.raw.req
  const base = `http://${sent.host}${from}`
  const target = URL.canParse(headers.location, base) ? new URL(headers.location, base) : undefined
  if (target?.origin !== new URL(base).origin) return undefined
  const { url: _url, query: _query, payload, body, method = 'GET', ...rest } = request
  const to = { ...rest, path: target.pathname + target.search, authority: String(sent.host) }
  const isKept =
    statusCode > 303 ||
    ['GET', 'HEAD'].includes(method.toUpperCase()) ||
    (statusCode < 303 && method.toUpperCase() !== 'POST')
  const content = payload ?? body
  if (isKept) return { ...to, method, ...(content === undefined ? {} : { payload: content }) }
  return { ...to, method: 'GET', headers: withoutBody(rest.headers ?? {}) }
}

function withoutBody(headers: NonNullable<InjectOptions['headers']>): typeof headers {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !bodyHeader.test(name)))
}
