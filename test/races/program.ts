/** What a request of an explored program does between being resolved and being committed. */
export type Step =
  | 'read'
  | 'write a'
  | 'write b'
  | 'delete a'
  | 'touch'
  | 'update'
  | 'save'
  | 'destroy'
  | 'regenerate'
  | 'regenerate, keeping a'
  /** `app.sessions.destroy()` by the public id: all that a request without a session does. */
  | 'end'

const plainSteps: ReadonlySet<Step> = new Set<Step>([
  'read',
  'write a',
  'write b',
  'delete a',
  'touch'
])

/** Whether a step touches the request alone: it takes no instant of its own. */
export function isPlain(step: Step): boolean {
  return plainSteps.has(step)
}

/**
 * One request: its steps, in order, and on what it carries the id of the one session there is at
 * the start.
 */
export interface Request {
  readonly steps: readonly Step[]
  /** `none`: it has no session, and ends the one by its public id. */
  readonly transport: 'cookie' | 'header' | 'none'
  /** Whether it has the id that the session had before it moved. */
  readonly isOld?: boolean
}

/**
 * Requests that run concurrently; and whether all sessions that are there at some instant expire at
 * it.
 */
export interface Program {
  readonly requests: readonly Request[]
  readonly expire: boolean
  /** Whether the one session has moved before, and its old id is a trace. */
  readonly hasMoved?: boolean
}

/** What a session holds. */
export type Data = Readonly<Record<string, unknown>>

/** What the one session holds at the start. */
export const initialData: Data = Object.freeze({ a: 0, n: 0 })

/** What a request that writes puts under a key. */
export function mark(request: number): string {
  return `written by ${request}`
}

/**
 * What came of a program: what each request told its client, or why it failed; and what is stored
 * in the end: in the one session (null: it is gone), and in those that the requests began.
 */
export interface Result {
  readonly told: readonly string[]
  readonly session: Data | null
  readonly begun: readonly Data[]
}

/** A text that is equal for equal results. */
export function canonical({ told, session, begun }: Result): string {
  return JSON.stringify([told, inOrder(session), begun.map(inOrder).toSorted()])
}

/** A text that is equal for equal data. */
export function inOrder(data: Data | null): string {
  return JSON.stringify(
    data === null
      ? null
      : Object.fromEntries(
          Object.entries(data).toSorted(([one], [other]) => (one < other ? -1 : 1))
        )
  )
}
