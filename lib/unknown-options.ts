import { SessionError } from './errors.ts'

/** What the options of other plugins are called here. */
const renamed: Readonly<Record<string, string>> = {
  // @fastify/session, @fastify/secure-session, iron-session
  cookieName: 'sessionCookie',
  cookieOptions: 'cookie',
  idGenerator: 'generateId',
  password: 'secret',
  expiry: 'absoluteTimeout',
  // express-session
  name: 'sessionCookie',
  genid: 'generateId',
  // Others
  header: 'sessionHeader',
  headerName: 'sessionHeader',
  secrets: 'secret',
  keys: 'secret',
  ttl: 'maxAge (in seconds)',
  timeout: 'maxAge (in seconds)',
  expires: 'maxAge (in seconds)',
  expiresIn: 'maxAge (in seconds)',
  idleTimeout: 'maxAge (in seconds)',
  updateAge: 'touchAfter (in seconds)',
  decorateRequest: 'sessionName',
  saveUninitialised: 'saveUninitialized',
  saveUninitalized: 'saveUninitialized',
  saveUnitialized: 'saveUninitialized'
}

/** Why there is no such option here. */
const needless: Readonly<Record<string, string>> = {
  rolling:
    'every use moves the expiry, and the cookie is sent again when that is due: see touchAfter',
  resave: 'only what has changed is written',
  unset: 'session.destroy() ends a session',
  proxy: "the option trustProxy of Fastify says whether a proxy's headers count",
  cookiePrefix: 'the cookie has the id as it is',
  algorithm: 'ids are signed with HMAC-SHA-256, by the option secret',
  signer: 'ids are signed by the option secret',
  unsignSignedCookie: 'ids are signed by the option secret',
  key: 'the data stays on the server; the option secret signs the id',
  salt: 'the option secret is used as it is, of 32 bytes or more',
  autoCommit: 'a session is stored before its reply leaves'
}

/** The same for what is no attribute of the cookie. */
const neverOfCookie: Readonly<Record<string, string>> = {
  maxAge: 'cookie.maxAge is the option maxAge here, beside cookie, and in seconds',
  expires: 'cookie.expires is not needed: the cookie ends with its session, by the option maxAge',
  originalMaxAge: 'cookie.originalMaxAge is the option maxAge here, beside cookie, in seconds',
  signed: 'cookie.signed is not needed: the option secret signs the id',
  name: 'cookie.name is called sessionCookie here, beside cookie'
}

/** And for a store. */
const neverOfStore: Readonly<Record<string, string>> = {
  ttl: 'ttl is not needed: each session is stored for as long as the options of the plugin say',
  disableTTL: 'disableTTL is not possible: what is stored expires',
  disableTouch: 'disableTouch is not needed: touchAfter of the plugin says how often to touch',
  serializer: 'serializer is an option of the plugin here',
  tableName: 'tableName is called table here',
  createTableIfMissing: 'createTableIfMissing is not needed: call createTable() of the store',
  pruneSessionInterval: 'pruneSessionInterval is not needed: call deleteExpired() of the store',
  conString: 'conString is not needed: give the store a pool of pg',
  conObject: 'conObject is not needed: give the store a pool of pg'
}

/**
 * Refuses what is no option of the plugin.
 *
 * @param known the options that there are
 * @throws HOLDFAST_OPTION_INVALID it says what the option is called here, or why there is none
 */
export function refuseOption(name: string, known: readonly string[]): never {
  const plain = plainOf(name)
  const alike = known.find((option) => plainOf(option) === plain)
  const own = find(renamed, name) ?? alike
  const why = find(needless, name)
  if (own !== undefined) throw invalid(`${name} is called ${own} here`)
  if (why !== undefined) throw invalid(`${name} is not needed: ${why}`)
  throw invalid(`there is no option ${name}; the options are ${known.join(', ')}`)
}

/** Refuses what is no attribute of the cookie. @throws HOLDFAST_OPTION_INVALID */
export function refuseAttribute(name: string, known: readonly string[]): never {
  throw invalid(
    find(neverOfCookie, name) ??
      `there is no attribute cookie.${name}; the attributes are ${known.join(', ')}`
  )
}

/** Refuses what is no option of a store. @throws HOLDFAST_OPTION_INVALID */
export function refuseStoreOptions(given: object, known: readonly string[]): void {
  const unknown = Object.keys(given).find((name) => !known.includes(name))
  if (unknown === undefined) return
  throw invalid(
    find(neverOfStore, unknown) ??
      `there is no option ${unknown} of the store; the options are ${known.join(', ')}`
  )
}

function find(texts: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(texts, name) ? texts[name] : undefined
}

/** A name without what naming conventions add. */
function plainOf(name: string): string {
  return name.replaceAll(/[_-]/g, '').toLowerCase()
}

function invalid(detail: string): SessionError {
  return new SessionError('HOLDFAST_OPTION_INVALID', { detail })
}
