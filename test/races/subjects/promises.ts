import { isRegenerate, isSignIn, leaves, moves, signsIn, type Program } from './program.ts'
import { hasEnded, mark, nameOf, subject, type Origin, type Outcome, type Run } from './world.ts'

/** What befell a run besides the order of its steps. */
export interface Trouble {
  /** How many store calls may have failed. */
  readonly faults: number
  /** Whether a call may have run out of time, or lost its process, or come late. */
  readonly isUnknown: boolean
}

/** Holds a run to the promises. Returns the one that it has broken, if any. */
export function brokenBy(program: Program, trouble: Trouble, run: Run): string | undefined {
  return (
    run.violation ??
    endedAnswers(program, trouble, run) ??
    leftBehind(trouble, run) ??
    unlisted(run) ??
    goneTooMuch(program, trouble, run) ??
    writtenWrong(program, run) ??
    toldWrong(program, trouble, run)
  )
}

/** Nothing that was ended answers, nor what it went on as. */
function endedAnswers(program: Program, { faults }: Trouble, run: Run): string | undefined {
  for (const { origin, bears, subject: who } of run.found) {
    if (origin === undefined || who === undefined) continue
    const end = run.ends.find((each) => hasEnded(each, { origin, bears }, run))
    if (end !== undefined) return `P11: session "${origin}" answers after ${nameOf(end)}`
  }
  for (const end of run.ends) {
    // After a fault it may say so of one that has gone on as another: it is dead in any case.
    const isOne = end.kind === 'one' && end.answer === true && faults === 0
    const isOfOne = end.kind === 'destroy' || isOne
    if (end.settledAt === undefined || end.of === undefined || !isOfOne) continue
    if (run.found.some(({ origin }) => origin === end.of)) {
      return `P1: the session answers after ${nameOf(end)}`
    }
    // Of more than one that moves it, the late one may begin anew.
    const movers = program.requests.filter((each) => leaves(each) || moves(each))
    if (movers.length > 1) continue
    for (const [index, { found, id }] of run.outcomes.entries()) {
      const isOther = index !== end.by && found === end.of
      const hasGoneOn = isOther && movers.includes(program.requests[index] as never)
      if (hasGoneOn && program.requests[index]?.who === 'first' && answers(run, id)) {
        return `P1: what it went on as answers after ${nameOf(end)}`
      }
    }
  }
}

function answers({ found }: Run, id: string | undefined): boolean {
  return id !== undefined && found.some((each) => each.id === id)
}

/** Without a fault, nothing answers of which nobody has the id. */
function leftBehind({ faults }: Trouble, run: Run): string | undefined {
  if (faults > 0) return undefined
  const told = new Set(tellings(run))
  const stray = run.found.find(({ id }) => !told.has(id))
  return stray && `a session is left behind of which nobody has the id: ${stray.origin}`
}

function tellings({ ids, outcomes }: Run): string[] {
  const told = outcomes.map(({ id }) => id).filter((id) => id !== undefined)
  return [ids.first, ids.beside, ...told]
}

/** What answers is listed, and what is listed answers. */
function unlisted({ listed, answering }: Run): string | undefined {
  if (listed.toSorted().join() === answering.toSorted().join()) return undefined
  return `P11: listed are ${listed.join() || 'none'}; ${answering.join() || 'none'} answer`
}

/** What lives, and was not ended, answers to somebody. */
function goneTooMuch(program: Program, trouble: Trouble, run: Run): string | undefined {
  if (program.event !== undefined) return undefined
  const told = new Set(tellings(run))
  const begun = run.outcomes.flatMap(({ id }, index): Origin[] => {
    const { steps } = program.requests[index] as Program['requests'][number]
    const isSignedIn = steps.some(isSignIn) && !steps.includes('destroy')
    return id !== undefined && isSignedIn ? [`by ${index}`] : []
  })
  for (const origin of ['first', 'beside', ...begun] as const) {
    if (mayHaveEnded(origin, program, trouble, run)) continue
    const isThere = run.found.some((each) => each.origin === origin && told.has(each.id))
    if (!isThere) return `P8: session "${origin}" has gone, and nothing ended it`
  }
}

/** Whether something in a program may end a session. */
function mayHaveEnded(
  origin: Origin,
  { requests, whenFull, start }: Program,
  { faults, isUnknown }: Trouble,
  { ends, outcomes }: Run
): boolean {
  const own = origin.startsWith('by ') ? Number(origin.slice(3)) : undefined
  const signedInAt = own === undefined ? 0 : (outcomes[own]?.signInAt as number)
  const isAnonymous = origin === 'first' && start === 'anonymous'
  const before = own === undefined ? undefined : outcomes[own]?.found
  const isEnded = ends.some(({ kind, of, settledAt = Infinity }) => {
    // It ends what the session has gone on as, too.
    if (kind === 'destroy') return of === origin || (of !== undefined && of === before)
    // A sign-in by the session that it was to end may have kept its handle.
    if (kind === 'one') return of === origin || (of !== undefined && of === before)
    return !isAnonymous && of !== origin && settledAt > signedInAt
  })
  if (isEnded) return true
  const isOfOldest = whenFull === 'end-oldest' && !isAnonymous
  if (isOfOldest && requests.some((each, index) => signsIn(each) && index !== own)) return true
  return requests.some((request, index) => {
    const { telling, found, hasLeft } = outcomes[index] as Outcome
    // Who comes too late, and goes on with nothing, logs out.
    const isDone = telling === 'nothing' || (isUnknown && telling === 'failed')
    const isLogout = isDone && request.steps.some(isRegenerate)
    if (isLogout && found !== undefined && (found === origin || found === before)) return true
    if (found !== origin) return false
    if (leaves(request) && hasLeft === true) return true
    // What it went on as may have ended before it was told.
    if (faults > 0 && leaves(request) && telling === 'gone' && ends.length > 0) return true
    return isUnknown && telling === 'failed' && (leaves(request) || moves(request))
  })
}

/** What was written is in the session, also under another id; what was dropped is nowhere. */
function writtenWrong({ requests }: Program, run: Run): string | undefined {
  for (const [index, { steps }] of requests.entries()) {
    const { found, telling, hasWritten } = run.outcomes[index] as Outcome
    if (steps.join() !== 'write' || found === undefined) continue
    const key = mark(index)
    const holders = run.found.filter(({ data }) => key in data)
    if (telling === 'gone' && holders.length > 0) return `P3: ${key} is there, and was dropped`
    if (telling === 'failed' || telling === 'gone' || hasWritten !== true) continue
    const without = goesOnAs(found, requests, run).find(({ data }) => !(key in data))
    if (without !== undefined) return `P3: ${key} is lost`
  }
  const updates = run.outcomes.filter((_, index) => requests[index]?.steps.includes('update'))
  const resolved = updates.filter(({ found }) => found === 'first')
  const least = resolved.reduce((sum, each) => sum + each.updates, 0)
  const unknown = updates.filter(({ telling }) => telling === 'failed').length
  for (const { data } of goesOnAs('first', requests, run)) {
    const { n } = data as { n: number }
    if (n < least) return `P4: an update is lost: ${n} of ${least}`
    if (n > least + unknown) return `P4: an update counts twice: ${n} of ${least}`
  }
}

/** What answers of a session, and of those that have gone on with all that it held. */
function goesOnAs(origin: Origin, requests: Program['requests'], run: Run): Run['found'] {
  const origins = new Set<Origin | undefined>([origin])
  for (const [index, { steps }] of requests.entries()) {
    const isHeir = steps.includes('sign in, keeping all') && run.outcomes[index]?.found === origin
    if (isHeir) origins.add(`by ${index}`)
  }
  const told = new Set(tellings(run))
  return run.found.filter((each) => told.has(each.id) && origins.has(each.origin))
}

/** Every request is told what is true, and fails only if something stands in its way. */
function toldWrong(program: Program, { faults }: Trouble, run: Run): string | undefined {
  const { requests, whenFull, event } = program
  const isAlone = requests.length === 1 && event === undefined && faults === 0
  for (const [index, { telling, found }] of run.outcomes.entries()) {
    const request = requests[index] as Program['requests'][number]
    const isStale = request.who === 'old'
    if (telling === 'failed' && faults === 0) return `request ${index} has failed`
    const isOldest = whenFull === 'end-oldest' && leaves(request)
    if (telling === 'gone' && isAlone && !isStale && !isOldest)
      return `request ${index} is told GONE, alone`
    const isAnEnd = run.ends.some(({ kind, by }) => kind !== 'destroy' && by !== index)
    if (telling === 'ended' && !isAnEnd && event === undefined && faults === 0) {
      return `request ${index} is told that its sign-in was ended`
    }
    if (telling === 'full' && whenFull !== 'refuse') return `request ${index} is told FULL`
    const spared = run.ends.find(({ by, kind }) => by === index && kind === 'others')
    if (spared?.answer === false && spared.of !== undefined && found === spared.of) {
      const lives = run.found.some(({ origin, subject: who }) => {
        return origin === spared.of && who === subject
      })
      if (lives) return `request ${index} is told that its session has ended, and it lives`
    }
  }
}
