import { hash } from 'node:crypto'

import { systemClock } from '../clock.ts'
import { optionError, SessionError } from '../errors.ts'
import { CallLimit } from './call-limit.ts'
import { readMaxAge, writeMaxAge } from './max-age.ts'
import type { Clock } from '../../types/clock.ts'
import type { SessionRecord, SessionStore, SessionTrace } from '../../types/store.ts'

/** A client of node-redis (`redis` 5 and 6): a single client, a pool, a sentinel or a cluster. */
export interface NodeRedisClient {
  eval(script: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
  evalSha(sha: string, options: { keys: string[]; arguments: string[] }): Promise<unknown>
}

/**
 * A client of ioredis 5 and 6 or iovalkey: a single client or a cluster. `app.redis` of
 * `@fastify/redis` is one.
 */
export interface IoredisClient {
  eval(script: string, keyCount: number, key: string, ...args: string[]): Promise<unknown>
  evalsha(sha: string, keyCount: number, key: string, ...args: string[]): Promise<unknown>
}

export type RedisClient = NodeRedisClient | IoredisClient

/**
 * Options of `RedisStore`. An invalid one throws `HOLDFAST_OPTION_INVALID`; the message names the
 * option and the values that it takes.
 */
export interface RedisStoreOptions {
  /** Your client. You connect it and you close it. */
  client: RedisClient
  /** Prefix of every key. Default: `'sess:'`. */
  prefix?: string
  /**
   * Maximum number of calls that wait for the server at the same time. A further call fails at
   * once, which makes its request a 503, instead of joining a queue that does not move. Default:
   * 1000.
   */
  maxPending?: number
  /** Source of time, for tests. Default: the system clock. */
  clock?: Clock
}

/** A Lua script, which the server runs as one atomic step, and the SHA-1 by which it is cached. */
interface Script {
  readonly sha: string
  readonly text: string
}

function script(text: string): Script {
  return { sha: hash('sha1', text), text }
}

// Each script works on one key. A record is one string, `createdAt maxAge version;cookie data`; it
// expires with its key. Expiries are sent and returned as durations, so that an app's clock is
// never compared with the server's. A trace is one string too, `> successor version`, in which
// version 0.1.0 finds no record.

// What is no text is read as an empty one: it is there, and it is neither a record nor a trace.
const readEntry = `
local value, left = redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
if not value then return false end
if type(value) ~= 'string' then value = '' end
`
const getScript = script(`${readEntry}return { value, left }`)
const deleteScript = script(`${readEntry}
local isTrace = left >= 0 and string.match(value, '^> %S+ %S+$')
if not isTrace then redis.call('DEL', KEYS[1]) end -- mutant: trace stays
return { value, left }`)

const createScript = script(`
local life, value = unpack(ARGV)
return redis.call('SET', KEYS[1], value, 'NX', 'PX', life) and 1 or 0
`)

// Reads no more of the record than it needs to compare the version. A trace has none.
const readVersion = `
local createdAt, maxAge, version = string.match(
  redis.call('GETRANGE', KEYS[1], 0, #expected + 40), '^([%d.]+) (%S*) ([^ ;]+)[ ;]'
)
`
const updateScript = script(`
local life, expected, head, data = unpack(ARGV)${readVersion}
if version ~= expected then return 0 end -- mutant: version check
local idle = tonumber(string.match(head, '^%S*'))
local isShorter = idle and idle < (tonumber(maxAge) or math.huge)
redis.call(
  'SET', KEYS[1], createdAt .. ' ' .. head .. data,
  'PX', math.max(1, life, isShorter and 1 or redis.call('PTTL', KEYS[1]))
)
return 1
`)

const retireScript = script(`
local life, expected, trace = unpack(ARGV)${readVersion}
if version ~= expected then return 0 end
if tonumber(life) > 0 then
  redis.call('SET', KEYS[1], trace, 'PX', life)
else
  redis.call('DEL', KEYS[1])
end
return 1
`)

const touchScript = script(`
local maxAge = string.match(redis.call('GETRANGE', KEYS[1], 0, 40), '^[%d.]+ (%S*) ')
local life, left = tonumber(ARGV[1]), redis.call('PTTL', KEYS[1])
if not maxAge or left < 0 then return false end
life = math.min(life, (tonumber(maxAge) or life) * 1000)
if life <= left then return left end
redis.call('PEXPIRE', KEYS[1], life)
return life
`)

/**
 * Keeps sessions in Redis 6.2 or later, or in Valkey. Each session is one key, and each method is
 * one round trip that is atomic on the server and uses a single key, so it works on a cluster.
 *
 * The server measures how long a session lives, from when a call reaches it. A call that is delayed
 * on the way extends the idle lifetime by the delay, never the absolute one, which the plugin
 * checks on every read.
 */
export class RedisStore implements SessionStore {
  readonly #evaluate: Evaluate
  readonly #prefix: string
  readonly #callLimit: CallLimit
  readonly #clock: Clock

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(options: RedisStoreOptions) {
    const { client, prefix = 'sess:', maxPending, clock = systemClock } = options
    this.#evaluate = evaluatorOf(client)
    if (typeof prefix !== 'string') throw optionError('prefix', 'a string')
    this.#prefix = prefix
    this.#callLimit = new CallLimit(maxPending)
    this.#clock = clock
  }

  async get(key: string): Promise<SessionRecord | SessionTrace | undefined> {
    const now = this.#clock.now()
    const entry = unpack(await this.#run(getScript, key), now)
    if (entry === 'unreadable') throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
    return entry
  }

  async create(key: string, record: SessionRecord): Promise<boolean> {
    const now = this.#clock.now()
    // Already expired: the server refuses to set a key that lives for no time.
    if (record.expiresAt <= now) {
      return unpack(await this.#run(getScript, key), now) === undefined
    }
    const created = await this.#run(
      createScript,
      key,
      timeToLive(record.expiresAt, now),
      `${record.createdAt} ${headerOf(record)}${record.data}`
    )
    return Number(created) === 1
  }

  async update(key: string, record: SessionRecord, expectedVersion: string): Promise<boolean> {
    const now = this.#clock.now()
    const updated = await this.#run(
      updateScript,
      key,
      timeToLive(record.expiresAt, now),
      expectedVersion,
      headerOf(record),
      record.data
    )
    return Number(updated) === 1
  }

  async touch(key: string, expiresAt: number): Promise<number | undefined> {
    const now = this.#clock.now()
    const remaining = await this.#run(touchScript, key, timeToLive(expiresAt, now))
    return remaining === null ? undefined : now + Number(remaining)
  }

  async delete(key: string): Promise<SessionRecord | SessionTrace | true | undefined> {
    const now = this.#clock.now()
    const entry = unpack(await this.#run(deleteScript, key), now)
    return entry === 'unreadable' ? true : entry
  }

  async retire(key: string, { successor, version, expiresAt }: SessionTrace): Promise<boolean> {
    const life = timeToLive(expiresAt, this.#clock.now())
    const trace = `> ${successor} ${version}`
    return Number(await this.#run(retireScript, key, life, version, trace)) === 1
  }

  #run({ sha, text }: Script, key: string, ...args: string[]): Promise<unknown> {
    return this.#callLimit.run(async () => {
      try {
        return await this.#evaluate('sha', sha, this.#prefix + key, args).catch(
          (error: unknown) => {
            // The server lost its scripts: it was restarted, failed over, or told to flush them.
            if (!mentions(error, 'NOSCRIPT')) throw error
            return this.#evaluate('text', text, this.#prefix + key, args)
          }
        )
      } catch (error) {
        // The key holds something that is not a string, and so no record to change.
        if (mentions(error, 'WRONGTYPE')) return null
        throw withoutCommand(error)
      }
    })
  }
}

type Evaluate = (
  by: 'sha' | 'text',
  script: string,
  key: string,
  args: string[]
) => Promise<unknown>

function evaluatorOf(client: RedisClient): Evaluate {
  if (typeof client === 'object' && client !== null) {
    if ('evalSha' in client) {
      // node-redis 6 starts a timer for each command that waits to be sent, which costs more than
      // the command itself. The store needs none: the option storeTimeout limits the wait.
      const { withCommandOptions } = client as {
        withCommandOptions?: (options: { timeout: number }) => NodeRedisClient
      }
      const untimed = withCommandOptions?.call(client, { timeout: 0 }) ?? client
      return (by, text, key, args) =>
        untimed[by === 'sha' ? 'evalSha' : 'eval'](text, { keys: [key], arguments: args })
    }
    if ('evalsha' in client) {
      return (by, text, key, args) =>
        client[by === 'sha' ? 'evalsha' : 'eval'](text, 1, key, ...args)
    }
  }
  throw optionError('client', 'a client of redis (node-redis), ioredis or iovalkey')
}

/** Returns whether the message of an error has this error code of the server in it. */
function mentions(error: unknown, code: string): boolean {
  return error instanceof Error && error.message.includes(code)
}

/**
 * Removes the failed command from an error. ioredis keeps it there, with the session data among its
 * arguments, and they must not reach a log.
 */
function withoutCommand(error: unknown): unknown {
  if (typeof error === 'object' && error !== null) Reflect.deleteProperty(error, 'command')
  return error
}

/**
 * Returns the milliseconds from `now` until `expiresAt`, rounded up, as an argument of a script.
 */
function timeToLive(expiresAt: number, now: number): string {
  return String(Math.ceil(expiresAt - now))
}

/** Returns what stands between `createdAt` and the data in a stored record. */
function headerOf(record: SessionRecord): string {
  const { version, cookie } = record
  return `${writeMaxAge(record)} ${version}${cookie === undefined ? '' : `;${cookie}`} `
}

/** Returns what a reply holds; undefined if there is nothing. */
function unpack(
  reply: unknown,
  now: number
): SessionRecord | SessionTrace | 'unreadable' | undefined {
  if (!Array.isArray(reply)) return undefined
  const [value, remaining] = reply.map(String)
  if (Number(remaining) < 0) return 'unreadable'
  const [, successor, replaced] = /^> (\S+) (\S+)$/.exec(value) ?? []
  if (successor !== undefined && replaced !== undefined) {
    return { successor, version: replaced, expiresAt: now + Number(remaining) }
  }
  const [header, createdAt, maxAge, version, cookie] =
    /^([\d.]+) (\S*) ([^\s;]+)(?:;(\S*))? /.exec(value) ?? []
  if (header === undefined || version === undefined) return 'unreadable'
  return {
    data: value.slice(header.length),
    version,
    createdAt: Number(createdAt),
    expiresAt: now + Number(remaining),
    ...readMaxAge(maxAge),
    ...(cookie === undefined ? undefined : { cookie })
  }
}
