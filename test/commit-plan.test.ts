import t from 'tap'

import { planCommit, type CommitFacts, type CommitPlan } from '../lib/session/commit.ts'

const fresh: CommitFacts = {
  status: 'new',
  hasData: false,
  isSignedIn: false,
  isChanged: false,
  mayBegin: true,
  beginsWith: 'request',
  mustSendId: false,
  isTouchDue: false,
  mustClearCookie: false,
  hasDeparted: false
}
const loaded: CommitFacts = { ...fresh, status: 'loaded', hasData: true }
const destroyed: CommitFacts = { ...fresh, status: 'destroyed' }
const regenerated: CommitFacts = { ...fresh, status: 'regenerated' }
const nothing: CommitPlan = { kind: 'nothing', reply: 'none' }
const clear: CommitPlan = { kind: 'nothing', reply: 'clear-cookie' }

interface Row {
  readonly name: string
  readonly facts: CommitFacts
  readonly plan: CommitPlan
}

const table: readonly Row[] = [
  { name: 'new, nothing written', facts: fresh, plan: { kind: 'create' } },
  {
    name: 'new, nothing written, and it may not begin',
    facts: { ...fresh, mayBegin: false },
    plan: nothing
  },
  {
    name: 'new, data written, though it might not have begun without',
    facts: { ...fresh, hasData: true, mayBegin: false },
    plan: { kind: 'create' }
  },
  { name: 'loaded, unchanged', facts: loaded, plan: { kind: 'keep' } },
  {
    name: 'loaded, a touch due',
    facts: { ...loaded, isTouchDue: true },
    plan: { kind: 'touch' }
  },
  {
    name: 'loaded, the id to be sent',
    facts: { ...loaded, mustSendId: true },
    plan: { kind: 'touch' }
  },
  {
    name: 'loaded, changed',
    facts: { ...loaded, isChanged: true },
    plan: { kind: 'replace' }
  },
  {
    name: 'loaded, changed to hold nothing',
    facts: { ...loaded, hasData: false, isChanged: true },
    plan: { kind: 'replace' }
  },
  {
    name: 'loaded, changed, a touch due and the id to be sent: one write does it all',
    facts: { ...loaded, isChanged: true, isTouchDue: true, mustSendId: true },
    plan: { kind: 'replace' }
  },
  { name: 'regenerated, nothing kept', facts: regenerated, plan: { kind: 'create' } },
  {
    name: 'signed in, with no data, where the request alone begins none',
    facts: { ...regenerated, isSignedIn: true, mayBegin: false, hasDeparted: true },
    plan: { kind: 'create' }
  },
  {
    name: 'regenerated from a stored session, nothing kept, and it may not begin',
    facts: { ...regenerated, mayBegin: false, hasDeparted: true },
    plan: { kind: 'end' }
  },
  {
    name: 'moved by another request',
    facts: { ...fresh, status: 'moved' },
    plan: nothing
  },
  {
    name: 'moved by another request, and written to',
    facts: { ...fresh, status: 'moved', hasData: true },
    plan: { kind: 'drop' }
  },
  {
    name: 'regenerated, nothing kept, and it may not begin',
    facts: { ...regenerated, mayBegin: false, mustClearCookie: true },
    plan: clear
  },
  {
    name: 'regenerated, something kept',
    facts: { ...regenerated, hasData: true, mayBegin: false, mustClearCookie: true },
    plan: { kind: 'create' }
  },
  { name: 'destroyed, by no cookie', facts: destroyed, plan: nothing },
  {
    name: 'destroyed, by its cookie',
    facts: { ...destroyed, mustClearCookie: true },
    plan: clear
  },
  {
    name: 'destroyed, then written to',
    facts: { ...destroyed, hasData: true, mustClearCookie: true },
    plan: { kind: 'create' }
  },
  {
    name: 'new, nothing written, and it takes a write',
    facts: { ...fresh, beginsWith: 'write' },
    plan: nothing
  },
  {
    name: 'new, data written, and it takes a write',
    facts: { ...fresh, hasData: true, beginsWith: 'write' },
    plan: { kind: 'create' }
  },
  {
    name: 'new, data written, and it takes regenerate()',
    facts: { ...fresh, hasData: true, beginsWith: 'regenerate' },
    plan: { kind: 'nothing', reply: 'undeliverable' }
  },
  {
    name: 'destroyed by its cookie, then written to, and it takes regenerate()',
    facts: { ...destroyed, hasData: true, beginsWith: 'regenerate', mustClearCookie: true },
    plan: clear
  },
  {
    name: 'regenerated, nothing kept, and it takes regenerate()',
    facts: { ...regenerated, beginsWith: 'regenerate' },
    plan: { kind: 'create' }
  },
  {
    name: 'gone, whatever was changed',
    facts: { ...loaded, status: 'gone', isChanged: true, mustSendId: true },
    plan: { kind: 'drop' }
  }
]

for (const { name, facts, plan } of table) {
  t.test(`the plan of a commit: ${name}`, async (t) => t.same(planCommit(facts), plan))
}

/** Every combination of facts there can be. */
function* everyCase(): Generator<CommitFacts> {
  for (const status of ['new', 'loaded', 'moved', 'regenerated', 'destroyed', 'gone'] as const) {
    for (let bits = 0; bits < 2 ** 8; bits += 1) {
      const is = (bit: number): boolean => (bits & (2 ** bit)) !== 0
      for (const beginsWith of ['request', 'write', 'regenerate'] as const) {
        yield {
          status,
          hasData: is(0),
          isChanged: is(1),
          mayBegin: is(2),
          beginsWith,
          mustSendId: is(3),
          isTouchDue: is(4),
          mustClearCookie: is(5),
          hasDeparted: is(6),
          isSignedIn: is(7)
        }
      }
    }
  }
}

t.test('whatever the facts, the plan keeps the promises', async (t) => {
  for (const facts of everyCase()) {
    const plan = planCommit(facts)
    const { kind } = plan
    const { status, hasData, isChanged, mayBegin } = facts
    const name = JSON.stringify(facts)
    const isDropped = status === 'gone' || (status === 'moved' && hasData)
    t.equal(kind === 'drop', isDropped, `P1: what has ended is dropped: ${name}`)
    if (kind === 'end') t.ok(facts.hasDeparted, `what is over is ended: ${name}`)
    if (facts.hasDeparted && status === 'regenerated') {
      t.ok(kind === 'end' || kind === 'create', `the session of before ends: ${name}`)
    }
    t.equal(
      kind === 'replace',
      status === 'loaded' && isChanged,
      `only changes are stored: ${name}`
    )
    const isSignedIn = facts.isSignedIn && status === 'regenerated'
    if (kind === 'create') {
      t.ok(hasData || mayBegin || isSignedIn, `nothing begins unasked: ${name}`)
    }
    if (kind === 'create' && status !== 'regenerated') {
      t.ok(facts.beginsWith !== 'regenerate', `no cookie is set beside its path: ${name}`)
      t.ok(hasData || facts.beginsWith === 'request', `no cookie is replaced unasked: ${name}`)
    }
    if (status === 'destroyed' && !hasData) t.equal(kind, 'nothing', `it stays ended: ${name}`)
    if (kind === 'keep' || kind === 'touch') t.notOk(isChanged, `no change is lost: ${name}`)
    if (kind === 'nothing') {
      if (plan.reply === 'clear-cookie') t.ok(facts.mustClearCookie, `a cookie of ours: ${name}`)
      if (hasData) t.not(plan.reply, 'none', `no data is dropped in silence: ${name}`)
    }
  }
})
