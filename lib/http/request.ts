import type { FastifyBaseLogger, FastifyRequest } from 'fastify'
import type { IncomingHttpHeaders } from 'node:http'

import { optionError } from '../errors.ts'
import { rejected } from '../events.ts'
import type { HttpConfig } from './config.ts'
import type { SignedId } from './signer.ts'
import type { PresentedId } from '../session/client.ts'
import { readNotes } from '../session/notes.ts'
import { isWellFormed } from '../session/id.ts'
import type { SessionEvents } from '../../types/events.ts'
import type { Transport } from '../../types/session.ts'
import type { FoundSession } from '../session/load.ts'

/** What a request presented, as far as the reply must know it. */
export interface PresentedToken extends PresentedId {
  /** The id as it travelled, with its signature. Undefined: none that may travel on. */
  readonly token: string | undefined
  /** Whether there was a session cookie, even one that holds no id. */
  readonly hasCookie: boolean
  /**
   * Whether a browser sent it, which no script in it can deny: Sec-Fetch-Site is a forbidden
   * request header (Fetch, 2.2.2). Browsers send it with every request that has Sec-Fetch-Mode
   * (Fetch Metadata, 2); Node's fetch, which has that too, does not. Over http, but for localhost,
   * no browser sends either: an app for browsers there turns the header off.
   */
  readonly isBrowser: boolean
  /** The attributes of their own that live sessions' cookies have, where there were several. */
  readonly ambiguous: readonly string[]
  /** The ids of several cookies, of which the store knows the right one. */
  readonly candidates: readonly Candidate[] | undefined
}

/** An id as it came in one cookie of several. */
type Candidate = SignedId & { readonly token: string }

const none: readonly string[] = Object.freeze([])

/** The most ids of one request that the store is asked for. */
const maxCandidates = 4

/**
 * Reads what a request presents. The header decides if it is there, well-formed or not. Two lines
 * of it arrive joined by a comma, which no id has.
 */
export function readPresentedId(
  config: HttpConfig,
  headers: IncomingHttpHeaders,
  { log, isUse }: { readonly log: FastifyBaseLogger; readonly isUse: boolean }
): PresentedToken {
  const { headerKey, cookie } = config
  const inHeader = headerKey === undefined ? undefined : (headers[headerKey] as string | undefined)
  const found = cookie?.find(headers.cookie)
  const inCookies = typeof found === 'object' ? candidatesOf(config, found) : []
  if (inCookies.length > 1) cookie?.warnOfSeveral(log)
  // Of several cookies none but one may hold an id: the others do not count.
  const inCookie = typeof found === 'object' ? (inCookies[0]?.token ?? found[0]) : found
  const presented = inHeader ?? inCookie
  let transport: Transport | undefined
  if (inHeader !== undefined) transport = 'header'
  else if (inCookie !== undefined) transport = 'cookie'
  const isOpen = inCookies.length > 1
  const decisive = isOpen && transport === 'cookie' ? undefined : verify(config, presented)
  let ofCookie: SignedId | undefined
  if (!isOpen) ofCookie = inCookie === presented ? decisive : verify(config, inCookie)
  const candidates = isOpen && transport === 'cookie' ? inCookies : undefined
  if (rejected.hasSubscribers && candidates === undefined) {
    if (transport !== undefined && decisive === undefined) {
      rejectPresented(config, presented as string, transport)
    }
  }
  const id = decisive?.id
  const mustRenewCookie = ofCookie?.mustRenew === true && ofCookie.id === id
  return {
    id,
    token: decisive === undefined || decisive.mustRenew ? undefined : presented,
    transport,
    cookieId: ofCookie?.id,
    hasCookie: inCookie !== undefined,
    mustRenew: decisive?.mustRenew === true || mustRenewCookie,
    isBrowser: headers['sec-fetch-site'] !== undefined,
    isUse,
    found: undefined,
    ambiguous: none,
    former: undefined,
    candidates
  }
}

/** The ids in several cookies, each once, no more than `maxCandidates`. */
function candidatesOf(config: HttpConfig, values: readonly string[]): readonly Candidate[] {
  const candidates = new Map<string, Candidate>()
  for (const token of values) {
    const signed = verify(config, token)
    if (signed === undefined) continue
    // The same id under two secrets is one: that under the newer counts.
    if (candidates.get(signed.id)?.mustRenew !== false)
      candidates.set(signed.id, { ...signed, token })
    if (candidates.size === maxCandidates) break
  }
  return [...candidates.values()]
}

/**
 * Decides which of several cookies counts: that of the one live session, or else one that leads to
 * what a session has become. Of two live ones neither does, for somebody else may have set one.
 */
export function chooseCandidate(
  config: HttpConfig,
  presented: PresentedToken,
  found: readonly FoundSession[]
): PresentedToken {
  const live = found.filter(({ mayLive }) => mayLive)
  const only = live.length > 1 ? undefined : (live[0] ?? found[0])
  const candidates = presented.candidates as readonly Candidate[]
  const chosen = candidates.find((candidate) => candidate.id === only?.id)
  if (chosen === undefined) {
    if (rejected.hasSubscribers) publishRejection(config, 'duplicate', 'cookie')
    const ambiguous = live.map(({ entry }) => attributesOf(entry))
    return { ...presented, ambiguous, candidates: undefined }
  }
  const { id, token, mustRenew } = chosen
  return {
    ...presented,
    id,
    token: mustRenew ? undefined : token,
    cookieId: id,
    mustRenew,
    found: only?.entry,
    candidates: undefined
  }
}

function attributesOf(entry: FoundSession['entry']): string {
  return typeof entry === 'object' && 'data' in entry && entry.data !== undefined
    ? readNotes(entry).attributes
    : ''
}

/** The headers of a request that presents an id. @throws HOLDFAST_OPTION_INVALID */
export function headersFor(
  config: HttpConfig,
  id: string,
  transport: Transport = config.sessionCookie === false ? 'header' : 'cookie'
): Record<string, string> {
  const { headerKey, cookie, signer } = config
  const token = signer?.sign(id) ?? id
  if (transport === 'header' && headerKey !== undefined) return { [headerKey]: token }
  if (transport === 'cookie' && cookie !== undefined) return { cookie: cookie.header(token) }
  const expected = `one that the registration has, and it has no ${transport}`
  throw optionError('transport', expected)
}

function verify({ signer }: HttpConfig, presented: string | undefined): SignedId | undefined {
  if (presented === undefined) return undefined
  if (signer !== undefined) return signer.verify(presented)
  return isWellFormed(presented) ? { id: presented, mustRenew: false } : undefined
}

/** Publishes why what a request presented is no id. */
function rejectPresented(config: HttpConfig, presented: string, transport: Transport): void {
  // A client asks for a session by `new`.
  if (presented === 'new') return
  const isUnsigned = config.signer !== undefined && isWellFormed(presented.split('.', 1)[0])
  publishRejection(config, isUnsigned ? 'signature' : 'malformed', transport)
}

function publishRejection(
  { sessionName }: HttpConfig,
  reason: SessionEvents['rejected']['reason'],
  transport: Transport
): void {
  rejected.publish({ sessionName, transport, reason, session: undefined })
}

/**
 * Whether a request asks for a WebSocket (RFC 6455, 4.1). Unless it is refused, it is answered past
 * Fastify.
 */
export function isHandshake(headers: IncomingHttpHeaders): boolean {
  return headers.upgrade !== undefined && /^websocket$/i.test(headers.upgrade)
}

/**
 * Whether a request may begin a session that nothing was written to. Scanners, refused requests,
 * preflights and handshakes would fill the store with sessions that nobody comes back to (CORS
 * preflight: Fetch, 3.3.2; handshake: RFC 6455, 4.2.1).
 *
 * @param status that of the reply
 */
export function mayBegin({ headers, is404, method }: FastifyRequest, status: number): boolean {
  if (is404 || status >= 400) return false
  if (method === 'OPTIONS' && headers['access-control-request-method'] !== undefined) return false
  return !isHandshake(headers)
}
