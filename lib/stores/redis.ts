import { systemClock } from '../clock.ts'
import { optionError, SessionError } from '../errors.ts'
import { CallLimit } from './call-limit.ts'
import { checkStoreOptions } from './check-store-options.ts'
import { readMaxAge, writeMaxAge } from './max-age.ts'
import { evaluatorOf, type Evaluate, type RedisClient } from './redis-client.ts'
import {
  createScript,
  deleteScript,
  getScript,
  retireScript,
  touchScript,
  updateScript,
  type Script
} from './redis-scripts.ts'
import { RedisFeed } from './redis-feed.ts'
import { RedisSubjects } from './redis-subjects.ts'
import { subjectOf } from '../subject-key.ts'
import type { Clock } from '../../types/clock.ts'
import type { SessionFeed } from '../../types/feed.ts'
import type { SessionRecord, SessionStore, SessionTrace, SubjectStore } from '../../types/store.ts'

export type { IoredisClient, NodeRedisClient, RedisClient } from './redis-client.ts'

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
   * A client for the one subscription that `session.signal` needs, of the same library, which you
   * connect and close. Default: `client.duplicate()`, which the store makes for the first signal,
   * and closes with the app. A pool of node-redis cannot subscribe: over that give one, or ends are
   * heard within three seconds.
   */
  subscriber?: RedisClient
  /**
   * Maximum number of calls that wait for the server at the same time. A further call fails at
   * once, which makes its request a 503, instead of joining a queue that does not move. Default:
   * 1000.
   */
  maxPending?: number
  /** Source of time, for tests. Default: the system clock. */
  clock?: Clock
}

/**
 * Keeps sessions in Redis 6.2 or later, or in Valkey. Each session is one key, and each method is
 * one round trip that is atomic on the server. It uses a single key, or two in one slot where
 * somebody is signed in, so it works on a cluster.
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
  readonly subjects: SubjectStore
  readonly feed: SessionFeed

  /** @throws HOLDFAST_OPTION_INVALID */
  constructor(options: RedisStoreOptions) {
    checkStoreOptions(options, ['client', 'prefix', 'subscriber', 'maxPending', 'clock'])
    const { client, subscriber, prefix = 'sess:', maxPending, clock = systemClock } = options
    this.#evaluate = evaluatorOf(client)
    if (subscriber !== undefined) evaluatorOf(subscriber)
    if (typeof prefix !== 'string') throw optionError('prefix', 'a string')
    this.#prefix = prefix
    this.#callLimit = new CallLimit(maxPending)
    this.#clock = clock
    this.subjects = new RedisSubjects({
      client,
      prefix,
      get: (key) => this.get(key),
      write: (record) => [
        timeToLive(record.expiresAt, clock.now()),
        `${record.createdAt} ${headerOf(record)}${record.data}`
      ],
      lifeOf: (expiresAt) => timeToLive(expiresAt, clock.now()),
      run: (script, keys, ...args) => this.#runOn(keys, script, args)
    })
    this.feed = new RedisFeed({
      client,
      subscriber,
      prefix,
      clock,
      keysFor: (key) => keysFor(prefix, key),
      run: (script, keys) => this.#runOn(keys, script, [])
    })
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

  #run(script: Script, key: string, ...args: string[]): Promise<unknown> {
    return this.#runOn(keysFor(this.#prefix, key), script, args)
  }

  #runOn(keys: string[], { sha, text }: Script, args: string[]): Promise<unknown> {
    return this.#callLimit.run(async () => {
      try {
        return await this.#evaluate('sha', sha, keys, args).catch((error: unknown) => {
          // The server lost its scripts: it was restarted, failed over, or told to flush them.
          if (!mentions(error, 'NOSCRIPT')) throw error
          return this.#evaluate('text', text, keys, args)
        })
      } catch (error) {
        // The key holds something that is not a string, and so no record to change.
        if (mentions(error, 'WRONGTYPE')) return null
        throw withoutCommand(error)
      }
    })
  }
}

/** Returns the keys of a session on the server: its own, and that of its subject's list. */
function keysFor(prefix: string, key: string): string[] {
  const subject = subjectOf(key)
  if (subject === undefined) return [prefix + key]
  const list = `${prefix}{${subject}}`
  return [list + key.slice(subject.length), list]
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
  const { version, notes } = record
  return `${writeMaxAge(record)} ${version}${notes === undefined ? '' : `;${notes}`} `
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
  const [header, createdAt, maxAge, version, notes] =
    /^([\d.]+) (\S*) ([^\s;]+)(?:;(\S*))? /.exec(value) ?? []
  if (header === undefined || version === undefined) return 'unreadable'
  return {
    data: value.slice(header.length),
    version,
    createdAt: Number(createdAt),
    expiresAt: now + Number(remaining),
    ...readMaxAge(maxAge),
    ...(notes === undefined ? undefined : { notes })
  }
}
