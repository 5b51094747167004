import { createHash, randomBytes } from 'node:crypto'

import Fastify from 'fastify'
import type { Test } from 'tap'

export interface IdentityProvider {
  readonly url: string
  readonly client: { readonly id: string; readonly secret: string }
  /**
   * What a browser does there: follows the app's redirect, consents, and is sent back. Answers the
   * path and query of the callback.
   */
  consent(location: string): Promise<string>
  /** How many tokens it gave. */
  readonly issued: () => number
}

interface Grant {
  readonly redirectUri: string
  readonly challenge: string | undefined
}

/**
 * An OAuth 2 authorization server on loopback (RFC 6749, 4.1, with RFC 7636's S256), where
 * everybody is ada and consents.
 */
export async function identityProvider(t: Test): Promise<IdentityProvider> {
  const client = { id: 'the-shop', secret: 'the-secret-of-the-shop' }
  const codes = new Map<string, Grant>()
  const tokens = new Set<string>()
  const app = Fastify()
  t.teardown(() => app.close())
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (_request, body, done) => {
      done(null, Object.fromEntries(new URLSearchParams(body as string)))
    }
  )

  app.get<{ Querystring: Record<string, string | undefined> }>(
    '/authorize',
    async ({ query }, reply) => {
      const {
        client_id,
        response_type,
        redirect_uri,
        state,
        code_challenge,
        code_challenge_method
      } = query
      if (client_id !== client.id || response_type !== 'code' || redirect_uri === undefined)
        return reply.code(400).send({ error: 'invalid_request' })
      if (code_challenge !== undefined && code_challenge_method !== 'S256')
        return reply.code(400).send({ error: 'invalid_request' })
      const code = secret()
      codes.set(code, { redirectUri: redirect_uri, challenge: code_challenge })
      return reply.redirect(
        `${redirect_uri}?${new URLSearchParams({ code, ...(state === undefined ? {} : { state }) })}`
      )
    }
  )

  app.post<{ Body: Record<string, string | undefined> }>(
    '/token',
    async ({ body, headers }, reply) => {
      const given =
        headers.authorization === undefined
          ? `${body['client_id']}:${body['client_secret']}`
          : basic(headers.authorization)
      if (given !== `${client.id}:${client.secret}`)
        return reply.code(401).send({ error: 'invalid_client' })
      const grant = codes.get(body['code'] ?? '')
      codes.delete(body['code'] ?? '') // used once
      const verifier = body['code_verifier']
      const proven =
        grant?.challenge ===
        (verifier === undefined
          ? undefined
          : createHash('sha256').update(verifier).digest('base64url'))
      if (
        body['grant_type'] !== 'authorization_code' ||
        grant === undefined ||
        grant.redirectUri !== body['redirect_uri'] ||
        !proven
      ) {
        return reply.code(400).send({ error: 'invalid_grant' })
      }
      const token = secret()
      tokens.add(token)
      return { access_token: token, token_type: 'Bearer', expires_in: 60 }
    }
  )

  app.get('/userinfo', async ({ headers }, reply) => {
    if (!tokens.has(headers.authorization?.replace(/^Bearer /, '') ?? ''))
      return reply.code(401).send({ error: 'invalid_token' })
    return { sub: 'ada' }
  })

  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  return {
    url,
    client,
    issued: () => tokens.size,
    async consent(location) {
      if (!location.startsWith(`${url}/authorize?`))
        throw new Error(`not the way to the identity provider: ${location}`)
      const reply = await fetch(location, { redirect: 'manual' })
      const { pathname, search } = new URL(reply.headers.get('location') ?? '', url)
      return pathname + search
    }
  }
}

function secret(): string {
  return randomBytes(24).toString('base64url')
}

function basic(authorization: string): string {
  return Buffer.from(authorization.replace(/^Basic /, ''), 'base64')
    .toString()
    .split(':')
    .map(decodeURIComponent)
    .join(':')
}
