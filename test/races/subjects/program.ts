/** What a request does between being resolved and being committed. */
export type Step =
  | 'read'
  | 'write'
  | 'touch'
  | 'update'
  | 'save'
  | 'destroy'
  /** The check of the credentials takes a time of its own: it ends at some later instant. */
  | 'sign in'
  | 'sign in, keeping all'
  | 'reauthenticate'
  | 'regenerate, keeping all'
  /** It goes on as nobody. */
  | 'regenerate, keeping a'
  | 'end all'
  /** All but its own. */
  | 'end others'
  /** By its handle: that of the first session if somebody is signed in there, or the other. */
  | 'end one'

/**
 * Whose cookie a request has: that of the first session, the one that this had before it moved,
 * that of the session beside it, or none.
 */
type Who = 'first' | 'old' | 'beside' | 'nobody'

export interface Request {
  readonly who: Who
  readonly steps: readonly Step[]
}

/** What happens at some instant besides: the store loses what it lists, or all sessions expire. */
type Event = 'lose' | 'expire'

/**
 * Requests that run concurrently. At the start there is a first session, in which somebody is
 * signed in or not, or that has moved since; and beside it another one of the same subject.
 */
export interface Program {
  readonly start: 'anonymous' | 'signed in' | 'moved'
  readonly requests: readonly Request[]
  readonly event?: Event
  /** How many sessions the subject may have: two, if there is a limit. */
  readonly whenFull?: 'refuse' | 'end-oldest'
}

/** The most sessions of the subject, where there is a limit. */
export const most = 2

const signIns: ReadonlySet<Step> = new Set<Step>(['sign in', 'sign in, keeping all'])

/** Whether a step signs somebody in. */
export function isSignIn(step: Step): boolean {
  return signIns.has(step)
}

export function isRegenerate(step: Step): boolean {
  return step.startsWith('regenerate')
}

/** Whether a request signs somebody in. */
export function signsIn({ steps }: Request): boolean {
  return steps.some(isSignIn)
}

const leaving: ReadonlySet<Step> = new Set<Step>([...signIns, 'regenerate, keeping a'])

/** Whether a request ends its session by going on with another. */
export function leaves({ steps }: Request): boolean {
  return steps.some((step) => leaving.has(step))
}

const keepingAll: ReadonlySet<Step> = new Set<Step>(['reauthenticate', 'regenerate, keeping all'])

/** Whether a request moves its session to another id. */
export function moves({ steps }: Request): boolean {
  return steps.some((step) => keepingAll.has(step))
}

const byAnyone: readonly Request[] = [
  { who: 'first', steps: ['write'] },
  { who: 'first', steps: ['touch'] },
  { who: 'first', steps: ['update'] },
  { who: 'first', steps: ['destroy'] },
  { who: 'first', steps: ['sign in'] },
  { who: 'first', steps: ['sign in, keeping all'] },
  { who: 'nobody', steps: ['sign in'] },
  { who: 'nobody', steps: ['end all'] },
  { who: 'nobody', steps: ['end one'] },
  { who: 'beside', steps: ['end others'] }
]

const bySignedIn: readonly Request[] = [
  { who: 'first', steps: ['end others'] },
  { who: 'first', steps: ['regenerate, keeping all'] },
  { who: 'first', steps: ['regenerate, keeping a'] },
  { who: 'first', steps: ['reauthenticate'] }
]

/** Requests that do several things. Of these there is one in a program, beside a plain one. */
const chains: readonly Request[] = [
  { who: 'first', steps: ['sign in, keeping all', 'save', 'write'] },
  { who: 'nobody', steps: ['sign in', 'save', 'end others'] }
]

const chainsOfSignedIn: readonly Request[] = [
  { who: 'first', steps: ['end others', 'regenerate, keeping all'] },
  { who: 'first', steps: ['regenerate, keeping all', 'end others'] },
  { who: 'first', steps: ['regenerate, keeping all', 'save', 'end others', 'write'] }
]

const late: readonly Request[] = [
  { who: 'old', steps: ['write'] },
  { who: 'old', steps: ['destroy'] },
  { who: 'old', steps: ['sign in'] }
]

/** How many requests a program has, and what else is in it. */
export interface Choice {
  readonly requests: number
  readonly start: Program['start']
  readonly events?: readonly (Event | undefined)[]
  readonly limits?: readonly Program['whenFull'][]
  /** Without the requests that do several things. */
  readonly noChains?: boolean
  /** Only requests that do these things. */
  readonly only?: readonly Step[]
}

/** Every program of a choice. */
export function* programsOf({
  requests,
  start,
  events = [undefined],
  limits = [undefined],
  noChains = requests > 2,
  only
}: Choice): Generator<Program> {
  const isSignedIn = start !== 'anonymous'
  const plain = [...byAnyone, ...(isSignedIn ? bySignedIn : []), ...(start === 'moved' ? late : [])]
  const long = noChains ? [] : [...chains, ...(isSignedIn ? chainsOfSignedIn : [])]
  const chosen = [...plain, ...long].filter(
    ({ steps }) => only === undefined || steps.every((step) => only.includes(step))
  )
  for (const group of combinations(chosen, requests)) {
    if (group.filter((request) => long.includes(request)).length > 1) continue
    // It is there for those who come late.
    if (start === 'moved' && !group.some(({ who }) => who === 'old')) continue
    for (const event of events) {
      for (const whenFull of limits) {
        if (whenFull !== undefined && !group.some(signsIn)) continue
        yield {
          start,
          requests: group,
          ...(event && { event }),
          ...(whenFull && { whenFull })
        }
      }
    }
  }
}

function* combinations(of: readonly Request[], count: number, from = 0): Generator<Request[]> {
  if (count === 0) {
    yield []
    return
  }
  for (const [index, request] of of.entries()) {
    if (index < from) continue
    for (const rest of combinations(of, count - 1, index)) yield [request, ...rest]
  }
}
