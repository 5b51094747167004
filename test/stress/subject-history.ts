/** What a device asks for. */
export interface Order {
  readonly action: Action
  readonly subject: string
  /** Which session to end. */
  readonly handle: string
  /** Milliseconds that the check of the credentials takes. */
  readonly pause: number
}

export type Action =
  | 'who'
  | 'sign in'
  | 'write'
  | 'step up'
  | 'sign out'
  | 'list'
  | 'end one'
  | 'end others'
  | 'end all'

/** What an app answers: whose session it is, if it is anybody's, and what it has done when. */
export interface Answer {
  readonly subject?: string
  readonly handle?: string
  /** When the check of the credentials began by which the session is there. */
  readonly checkedFrom?: number
  /** When it called what ends sessions. */
  readonly calledAt?: number
  readonly listed?: readonly string[]
}

/** A request as its device and its app saw it. Microseconds of the clock that they share. */
export interface Recorded {
  readonly order: Order
  readonly sentAt: number
  /** When the answer was there. Infinity: none came, or one that says that it is not known. */
  readonly answeredAt: number
  /** Undefined: nobody knows what came of it. */
  readonly answer: Answer | undefined
}

/** The clock of the machine, which does not step. */
export function now(): number {
  return Number(process.hrtime.bigint() / 1000n)
}

/** The most sessions of a subject. */
const most = 4

/** Whether an end that was answered is one of the session of a later answer. */
function hasEnded({ order, answer }: Recorded, handle: string, checkedFrom: number): boolean {
  if (answer?.calledAt === undefined) return false
  const { action } = order
  if (action === 'end one') return handle === order.handle
  if (action === 'sign out') return handle === answer.handle
  const isSpared = action === 'end others' && handle === answer.handle
  return !isSpared && checkedFrom < answer.calledAt
}

/** Holds what was recorded of one subject to P11. Returns what is wrong with it. */
export function check(history: readonly Recorded[]): string | undefined {
  const checked = new Map<string, number>()
  for (const { answer } of history) {
    if (answer?.handle !== undefined) checked.set(answer.handle, answer.checkedFrom as number)
  }
  for (const later of history) {
    const { answer, sentAt } = later
    if (answer === undefined) continue
    if (answer.listed !== undefined && answer.listed.length > most) {
      return `P11: ${answer.listed.length} sessions, of ${most}: ${tell(later)}`
    }
    const seen = answer.listed ?? (answer.handle === undefined ? [] : [answer.handle])
    for (const handle of seen) {
      // Of a session that never answered, nobody knows from when it is.
      const checkedFrom = checked.get(handle) ?? Infinity
      const end = history.find(
        (each) => each.answeredAt < sentAt && hasEnded(each, handle, checkedFrom)
      )
      if (end !== undefined) return `P11: ${handle} is there in ${tell(later)}, after ${tell(end)}`
    }
  }
}

/** Whether a session must still be there at the end: it answered, and nothing may have ended it. */
export function lost(history: readonly Recorded[], handle: string): string | undefined {
  const last = history.findLast(({ answer }) => answer?.handle === handle)
  if (last === undefined) return undefined
  const isExcused = history.some(({ order, answer, answeredAt }) => {
    if (answeredAt < last.sentAt) return false
    if (order.action === 'end others') return answer?.handle !== handle
    if (order.action === 'end one') return order.handle === handle
    return ending.has(order.action)
  })
  return isExcused ? undefined : `P8: ${handle} is lost after ${tell(last)}`
}

const ending: ReadonlySet<Action> = new Set<Action>(['end all', 'sign out', 'sign in', 'step up'])

function tell(recorded: Recorded): string {
  return JSON.stringify(recorded)
}
