import { hash } from 'node:crypto'

import { systemClock } from '../clock.ts'
import { optionError } from '../errors.ts'
import { InFlight } from './in-flight.ts'
import type { Clock } from '../../types/clock.ts'
import type { SessionRecord, SessionStore } from '../../types/store.ts'

/** A client of node-redis (`redis` 5 and 6): single, pool, sentinel or cluster. */
export interface NodeRedisClient {
  eval(script: string, options: { keys: string[], arguments: string[] }): Promise<unknown>
  evalSha(sha: string, options: { keys: string[], arguments: string[] }): Promise<unknown>
}

/** A client of ioredis 5 and 6 or iovalkey, single or cluster; what @fastify/redis decorates is one. */
export interface IoredisClient {
  eval(script: string, keyCount: number, key: string, ...args: string[]): Promise<unknown>
  evalsha(sha: string, keyCount: number, key: string, ...args: string[]): Promise<unknown>
}

export type RedisClient = NodeRedisClient | IoredisClient

/** The options of a RedisStore. Wrong ones throw HOLDFAST_OPTION_INVALID, which names the option and the cure. */
export interface RedisStoreOptions {
  /** Your client, connected and closed by you. */
  client: RedisClient
  /** What every key begins with. Default: `'sess:'`. */
  prefix?: string
  /** The most calls that may wait for an answer at once; one more fails, which is a 503, rather than join a line that does not move. Default: 1000. */
  maxPending?: number
  /** Where time comes from; for tests. Default: the system's. */
  clock?: Clock
}

/** A script that the server runs as one atomic step, on one key: the name by which the server keeps it, and its text. */
interface Script {
  readonly sha: string
  readonly text: string
}

function script(text: string): Script {
  return { sha: hash('sha1', text), text }
}

// A record is one string, `createdAt maxAge version data`, with createdAt by the server's clock; its expiry is the key's.
// Instants go to the server as durations and come back as durations, so that no clock of an app is compared with it.

const readRecord = `
local value = redis.call('GET', KEYS[1])
if not value then return false end
local time = redis.call('TIME')
local reply = { value, redis.call('PTTL', KEYS[1]), time[1], time[2] }
`
const getScript = script(`${readRecord}return reply`)
const deleteScript = script(`${readRecord}redis.call('DEL', KEYS[1])
return reply`)

const createScript = script(`
local life, age, head, data = unpack(ARGV)
local time = redis.call('TIME')
local createdAt = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - age)
return redis.call('SET', KEYS[1], createdAt .. ' ' .. head .. data, 'NX', 'PX', life) and 1 or 0
`)

// Reads no further than to the end of the version that is expected.
const updateScript = script(`
local life, expected, head, data = unpack(ARGV)
local createdAt, version = string.match(redis.call('GETRANGE', KEYS[1], 0, #expected + 40), '^(%d+) %S* (%S+) ')
if version ~= expected then return 0 end
redis.call('SET', KEYS[1], createdAt .. ' ' .. head .. data, 'PX', math.max(1, life, redis.call('PTTL', KEYS[1])))
return 1
`)

const touchScript = script(`
local life, left = tonumber(ARGV[1]), redis.call('PTTL', KEYS[1])
if left < 0 then return false end
if life <= left then return left end
redis.call('PEXPIRE', KEYS[1], life)
return life
`)

/**
 * Keeps records in Redis 6.2 or later, or Valkey: one key per session, one round trip per verb, each verb atomic on the server
 * and on a single key, so that a cluster serves it.
 *
 * A life is counted by the server, from when a call reaches it: one that was under way for long lengthens the idle life by as
 * much, never the absolute one, which readers check.
 */
export class RedisStore implements SessionStore {
  readonly #evaluate: Evaluate
  readonly #prefix: string
  readonly #inFlight: InFlight
  readonly #clock: Clock

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(options: RedisStoreOptions) {
    const { client, prefix = 'sess:', maxPending, clock = systemClock } = options
    this.#evaluate = evaluatorOf(client)
    if (typeof prefix !== 'string') throw optionError('prefix', 'a string')
    this.#prefix = prefix
    this.#inFlight = new InFlight(maxPending)
    this.#clock = clock
  }

  async get(key: string): Promise<SessionRecord | undefined> {
    const now = this.#clock.now()
    return unpack(await this.#run(getScript, key), now)
  }

  async create(key: string, record: SessionRecord): Promise<boolean> {
    const now = this.#clock.now()
    // Dead on arrival: the server takes no life of nothing.
    if (record.expiresAt <= now) return await this.get(key) === undefined
    return Number(await this.#run(createScript, key, life(record.expiresAt, now), String(now - record.createdAt), headOf(record), record.data)) === 1
  }

  async update(key: string, record: SessionRecord, expectedVersion: string): Promise<boolean> {
    const now = this.#clock.now()
    return Number(await this.#run(updateScript, key, life(record.expiresAt, now), expectedVersion, headOf(record), record.data)) === 1
  }

  async touch(key: string, expiresAt: number): Promise<number | undefined> {
    const now = this.#clock.now()
    const left = await this.#run(touchScript, key, life(expiresAt, now))
    return left === null ? undefined : now + Number(left)
  }

  async delete(key: string): Promise<SessionRecord | undefined> {
    const now = this.#clock.now()
    return unpack(await this.#run(deleteScript, key), now)
  }

  #run({ sha, text }: Script, key: string, ...args: string[]): Promise<unknown> {
    return this.#inFlight.call(async () => {
      try {
        return await this.#evaluate('sha', sha, this.#prefix + key, args).catch((fault: unknown) => {
          // The server was restarted, failed over, or told to forget its scripts.
          if (!tells(fault, 'NOSCRIPT')) throw fault
          return this.#evaluate('text', text, this.#prefix + key, args)
        })
      } catch (fault) {
        // What is no string is no record of ours: the key is taken, and there is no session by it.
        if (tells(fault, 'WRONGTYPE')) return null
        throw withoutArguments(fault)
      }
    })
  }
}

type Evaluate = (by: 'sha' | 'text', script: string, key: string, args: string[]) => Promise<unknown>

function evaluatorOf(client: RedisClient): Evaluate {
  if (typeof client === 'object' && client !== null) {
    if ('evalSha' in client) {
      // node-redis 6 arms a timer for each command that waits to be sent, which costs more than the command; storeTimeout does without.
      const { withCommandOptions } = client as { withCommandOptions?: (options: { timeout: number }) => NodeRedisClient }
      const untimed = withCommandOptions?.call(client, { timeout: 0 }) ?? client
      return (by, text, key, args) => untimed[by === 'sha' ? 'evalSha' : 'eval'](text, { keys: [key], arguments: args })
    }
    if ('evalsha' in client) {
      return (by, text, key, args) => client[by === 'sha' ? 'evalsha' : 'eval'](text, 1, key, ...args)
    }
  }
  throw optionError('client', 'a client of redis (node-redis), ioredis or iovalkey')
}

function tells(fault: unknown, code: string): boolean {
  return fault instanceof Error && fault.message.includes(code)
}

/** ioredis keeps on its errors the command that failed, with the data in it: that must not reach a log. */
function withoutArguments(fault: unknown): unknown {
  if (typeof fault === 'object' && fault !== null) Reflect.deleteProperty(fault, 'command')
  return fault
}

/** Milliseconds that a record is to live. */
function life(expiresAt: number, now: number): string {
  return String(Math.ceil(expiresAt - now))
}

function headOf({ maxAge, version }: SessionRecord): string {
  return `${maxAge ?? ''} ${version} `
}

/** What cannot be read is no record of ours. */
function unpack(reply: unknown, now: number): SessionRecord | undefined {
  if (!Array.isArray(reply)) return undefined
  const [value, left, seconds, microseconds] = reply.map(String)
  const [head, createdAt, maxAge, version] = /^(\d+) (\S*) (\S+) /.exec(value) ?? []
  if (head === undefined || version === undefined || Number(left) < 0) return undefined
  return {
    data: value.slice(head.length),
    version,
    createdAt: now - (Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000) - Number(createdAt)),
    expiresAt: now + Number(left),
    ...maxAge === '' ? undefined : { maxAge: Number(maxAge) }
  }
}
