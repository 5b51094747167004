import { randomBytes } from 'node:crypto'

import { SessionError } from '../errors.ts'
import type { RedisClient } from './redis-client.ts'
import {
  endAllScript,
  endOneScript,
  enterScript,
  findScript,
  keyScript,
  listScript,
  moveScript,
  removeScript,
  sampleScript,
  stampScript,
  strikeScript,
  type Script
} from './redis-scripts.ts'
import { listKeys } from './redis-scan.ts'
import { lineageOf, subjectOf } from '../subject-key.ts'
import type {
  ListedSession,
  SessionPage,
  SessionRecord,
  SessionTrace,
  SubjectStore
} from '../../types/store.ts'

/** What a RedisStore does for its subjects. */
interface Tools {
  readonly client: RedisClient
  readonly prefix: string
  readonly get: (key: string) => Promise<SessionRecord | SessionTrace | undefined>
  /** Returns the life and the text of a new record, as arguments of a script. */
  readonly write: (record: SessionRecord) => readonly [life: string, value: string]
  readonly lifeOf: (expiresAt: number) => string
  readonly run: (script: Script, keys: string[], ...args: string[]) => Promise<unknown>
}

/** A session as a list has it. */
interface Entry {
  readonly lineage: string
  readonly digest: string
}

/** How many sessions of a list are read at once. */
const readsAtOnce = 50

/** Of how many sessions that are added, one looks for those that have expired. */
const sampleEvery = 16

/** How many it looks at: several times as many as were added since. */
const sampleSize = 64

/** The sessions of subjects in Redis: each subject has one list, in the slot of its sessions. */
export class RedisSubjects implements SubjectStore {
  readonly #tools: Tools

  constructor(tools: Tools) {
    this.#tools = tools
  }

  async stamp(subject: string): Promise<string> {
    return String(await this.#tools.run(stampScript, [this.#list(subject)], token()))
  }

  async list(subject: string, from = '0'): Promise<SessionPage> {
    if (!/^\d{1,19}$/.test(from))
      throw new SessionError('HOLDFAST_VALUE_INVALID', { detail: 'from is `next` of a page' })
    const reply = await this.#tools.run(listScript, [this.#list(subject)], from)
    const [stamp, version, next] = (reply as unknown[]).map(String)
    const entries = entriesOf((reply as unknown[])[3])
    const found: Array<ListedSession | undefined> = []
    // Not all at once: the calls of others have their turn.
    for (let start = 0; start < entries.length; start += readsAtOnce) {
      const some = entries.slice(start, start + readsAtOnce)
      const reads = some.map(({ lineage, digest }) => this.#read(`${subject}.${digest}`, lineage))
      found.push(...(await Promise.all(reads)))
    }
    await this.#strike(
      subject,
      entries.filter((_, index) => found[index] === undefined)
    )
    const sessions = found.filter((each) => each !== undefined)
    return { stamp, version, sessions, ...(next === '0' ? undefined : { next }) }
  }

  async find(subject: string, lineage: string): Promise<string | undefined> {
    const digest = await this.#tools.run(findScript, [this.#list(subject)], lineage)
    return digest === null ? undefined : `${subject}.${digest as string}`
  }

  async create(
    key: string,
    record: SessionRecord,
    { stamp, version = '?', instead = [] }: Parameters<SubjectStore['create']>[2]
  ): Promise<'created' | 'taken' | 'refused'> {
    const [life, value] = this.#tools.write(record)
    const lineage = lineageOf(record.version)
    const args = [life, value, lineage, stamp, version, ...instead]
    const answer = String(await this.#tools.run(enterScript, this.#keys(key), ...args))
    if (answer === 'taken' || answer === 'refused') return answer
    // What has expired is still listed. It need not be waited for, nor succeed: others will look.
    if (Number(answer) % sampleEvery === 0) {
      void this.#sample(subjectOf(key) as string).catch(() => {})
    }
    return 'created'
  }

  async move(
    key: string,
    record: SessionRecord,
    trace: SessionTrace,
    stamp?: string
  ): Promise<boolean> {
    const [life, value] = this.#tools.write(record)
    const { successor, version, expiresAt } = trace
    const keys = [...this.#keys(key), this.#keys(successor)[0]]
    const args = [this.#tools.lifeOf(expiresAt), version, `> ${successor} ${version}`, life, value]
    if (stamp !== undefined) args.push(stamp)
    return Number(await this.#tools.run(moveScript, keys, ...args)) === 1
  }

  async endAll(subject: string, except = ''): Promise<boolean> {
    const spared = await this.#tools.run(endAllScript, [this.#list(subject)], token(), except)
    return Number(spared) === 1
  }

  async endOne(subject: string, lineage: string): Promise<boolean> {
    const { run } = this.#tools
    const list = this.#list(subject)
    const digest = (await run(endOneScript, [list], lineage)) as string | null
    // It has ended by now. Whether it had before, its own key tells.
    return digest !== null && Number(await run(removeScript, [`${list}.${digest}`])) === 1
  }

  async endEverything(): Promise<void> {
    const { client, prefix, run } = this.#tools
    const sent = String(await run(keyScript, [prefix]))
    const added = sent.length - prefix.length
    for await (const keys of listKeys(client, sent)) {
      await Promise.all(keys.map((key) => run(endAllScript, [key.slice(added)], token(), '')))
    }
  }

  /** Looks whether some of the sessions that are listed have expired. */
  async #sample(subject: string): Promise<void> {
    const fields = await this.#tools.run(sampleScript, [this.#list(subject)], String(sampleSize))
    await this.#strike(subject, entriesOf(fields))
  }

  /** Takes those off the list that are there no more. */
  async #strike(subject: string, entries: readonly Entry[]): Promise<void> {
    if (entries.length === 0) return
    const list = this.#list(subject)
    const keys = entries.map(({ digest }) => `${list}.${digest}`)
    const lineages = entries.map(({ lineage }) => lineage)
    await this.#tools.run(strikeScript, [list, ...keys], ...lineages)
  }

  /** Reads a session that is listed, also where it has moved to since. */
  async #read(key: string, lineage: string): Promise<ListedSession | undefined> {
    const entry = await this.#tools.get(key).catch(unreadable)
    if (entry === undefined) return undefined
    if (entry.successor !== undefined) return this.#read(entry.successor, lineage)
    return lineageOf(entry.version) === lineage ? { lineage, key, record: entry } : undefined
  }

  #keys(key: string): [session: string, list: string] {
    const subject = subjectOf(key) as string
    const list = this.#list(subject)
    return [list + key.slice(subject.length), list]
  }

  #list(subject: string): string {
    return `${this.#tools.prefix}{${subject}}`
  }
}

/** What cannot be read is not listed. @throws any other error */
function unreadable(error: unknown): undefined {
  const isUnreadable = error instanceof SessionError && error.code === 'HOLDFAST_DATA_UNDECODABLE'
  if (!isUnreadable) throw error
}

/** Returns what of the fields of a list are sessions. */
function entriesOf(reply: unknown): Entry[] {
  const fields = (reply as unknown[]).map(String)
  const entries: Entry[] = []
  for (let index = 0; index < fields.length; index += 2) {
    const [lineage, digest] = [fields[index], fields[index + 1]]
    if (lineage !== '*' && lineage !== '#') entries.push({ lineage, digest })
  }
  return entries
}

/** What makes a stamp unlike any other, together with the server's time. */
function token(): string {
  return randomBytes(9).toString('base64url')
}
