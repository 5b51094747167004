import { entryOf, isUniqueViolation, rowOf, type Row } from './postgres-row.ts'
import type { SubjectStatements } from './postgres-subjects-sql.ts'
import { subjectOf } from '../subject-key.ts'
import type { Clock } from '../../types/clock.ts'
import type {
  ListedSession,
  SessionPage,
  SessionRecord,
  SessionTrace,
  SubjectStore
} from '../../types/store.ts'

/** How many sessions a page of a list has. */
const pageSize = 100

/** What a PostgresStore does for its subjects. */
interface Tools {
  readonly clock: Clock
  readonly statements: SubjectStatements
  readonly run: (
    text: string,
    values: unknown[]
  ) => Promise<{ rows: readonly unknown[]; rowCount: number | null }>
}

type ListedRow = Row & {
  readonly stamp: string
  readonly lineage: string | null
  readonly key: string | null
  readonly record_version: string
}

/** The sessions of subjects in PostgreSQL: each method is one statement. */
export class PostgresSubjects implements SubjectStore {
  readonly #tools: Tools

  constructor(tools: Tools) {
    this.#tools = tools
  }

  async stamp(subject: string): Promise<string> {
    const { rows } = await this.#run('stamp', [subject])
    return (rows as ReadonlyArray<{ stamp: string }>)[0].stamp
  }

  async list(subject: string, from = ''): Promise<SessionPage> {
    const calledAt = this.#tools.clock.now()
    const { rows } = await this.#run('list', [subject, from, pageSize])
    const found = rows as readonly ListedRow[]
    const sessions: ListedSession[] = []
    for (const { lineage, key, ...row } of found) {
      if (lineage === null || key === null) continue
      const entry = entryOf([{ ...row, version: row.record_version }], calledAt)
      if (typeof entry === 'object' && entry.data !== undefined) {
        sessions.push({ lineage, key, record: entry })
      }
    }
    const [{ stamp, version } = { stamp: '', version: '' }] = found
    const next = found.length < pageSize ? undefined : found.at(-1)?.lineage
    return { stamp, version: String(version), sessions, ...(next ? { next } : undefined) }
  }

  async find(subject: string, lineage: string): Promise<string | undefined> {
    const { rows } = await this.#run('find', [subject, lineage])
    return (rows as ReadonlyArray<{ key: string }>)[0]?.key
  }

  async create(
    key: string,
    record: SessionRecord,
    { stamp, version, instead = [] }: Parameters<SubjectStore['create']>[2]
  ): Promise<'created' | 'taken' | 'refused'> {
    const { rows } = await this.#run('create', [
      ...rowOf(key, record, this.#tools.clock.now()),
      subjectOf(key),
      stamp,
      version ?? null,
      instead
    ])
    const [{ subjects, created }] = rows as ReadonlyArray<{ subjects: number; created: number }>
    if (subjects === 0) return 'refused'
    return created === 0 ? 'taken' : 'created'
  }

  async move(
    key: string,
    record: SessionRecord,
    trace: SessionTrace,
    stamp?: string
  ): Promise<boolean> {
    const now = this.#tools.clock.now()
    const { successor, version, expiresAt } = trace
    const values = [...rowOf(successor, record, now), key, version, expiresAt - now, stamp ?? null]
    try {
      return (await this.#run('move', values)).rowCount === 1
    } catch (error) {
      if (isUniqueViolation(error)) return false
      throw error
    }
  }

  async endAll(subject: string, except?: string): Promise<boolean> {
    return (await this.#run('endAll', [subject, except ?? null])).rowCount === 1
  }

  async endOne(subject: string, lineage: string): Promise<boolean> {
    return (await this.#run('endOne', [subject, lineage])).rowCount === 1
  }

  async endEverything(): Promise<void> {
    await this.#run('endEverything', [])
  }

  #run(name: keyof SubjectStatements, values: unknown[]): ReturnType<Tools['run']> {
    return this.#tools.run(this.#tools.statements[name], values)
  }
}
