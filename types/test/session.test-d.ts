import type { FastifyRequest } from 'fastify'
import type { Session, SessionData, SessionDraft, Transport } from 'fastify-holdfast'

import './data.ts'
import { expect, type Equal } from './expect.ts'

declare const request: FastifyRequest
const { session } = request

// The one interface types the session everywhere.
expect<Equal<typeof session, Session>>()
expect<Equal<typeof session.user, string | undefined>>()
expect<Equal<typeof session.cart, string[] | undefined>>()
session.user = 'ada'
session.cart = ['apple']
session.cart.push('pear')
delete session.user
// @ts-expect-error: a value of another type
session.user = 1
// @ts-expect-error: undefined is not a value under exactOptionalPropertyTypes; delete removes
session.user = undefined
// @ts-expect-error: a key that was not declared
session.usr = 'ada'
// @ts-expect-error: a key that was declared readonly
session.began = 1
// @ts-expect-error: a key that cannot be absent
delete session.began
// @ts-expect-error: the session itself cannot be replaced
request.session = session

// The members.
expect<Equal<typeof session.id, string>>()
expect<Equal<typeof session.publicId, string>>()
expect<Equal<typeof session.isNew, boolean>>()
expect<Equal<typeof session.transport, Transport | undefined>>()
expect<Equal<Transport, 'header' | 'cookie'>>()
expect<Equal<typeof session.createdAt, number>>()
expect<Equal<typeof session.expiresAt, number>>()
session.maxAge = 60
expect<Equal<typeof session.maxAge, number>>()
session.maxAge = undefined
expect<Equal<ReturnType<typeof session.data>, SessionData>>()
expect<Equal<ReturnType<typeof session.touch>, void>>()
expect<Equal<ReturnType<typeof session.save>, Promise<void>>>()
expect<Equal<ReturnType<typeof session.destroy>, Promise<void>>>()
expect<Equal<ReturnType<typeof session.regenerate>, Promise<void>>>()
void session.regenerate(['cart'])
void session.regenerate(['cart', 'user'] as const, { keepLifetime: true })
void session.regenerate('all', { keepLifetime: true })
// @ts-expect-error: there is no such key
void session.regenerate(['what'])
// @ts-expect-error: there is no such option
void session.regenerate('all', { keepLifetimes: true })
expect<Equal<typeof session.subject, string | undefined>>()
expect<Equal<typeof session.authenticatedAt, number | undefined>>()
expect<Equal<ReturnType<typeof session.signIn>, Promise<boolean>>>()
void session.signIn('ada')
void session.signIn('ada', { verify: async () => true, keep: ['cart'], info: { device: 'phone' } })
// @ts-expect-error: there is no such key
void session.signIn('ada', { keep: ['what'] })
// @ts-expect-error: a subject is a text
void session.signIn(42)
// @ts-expect-error: the check says whether the credentials are right
void session.signIn('ada', { verify: () => 'yes' })
expect<Equal<ReturnType<typeof session.reauthenticate>, Promise<boolean>>>()
void session.reauthenticate(() => true)
// @ts-expect-error: who is signed in is said by signIn()
session.subject = 'ada'
session.options({ path: '/shop', sameSite: 'strict' })
// @ts-expect-error: an id is made, not set
session.id = 'mine'
// @ts-expect-error: a member is no place for data
session.touch = 1
// @ts-expect-error: seconds are a number
session.maxAge = '60'
// @ts-expect-error: keys are named in an array
void session.regenerate('cart')
// @ts-expect-error: the lifetime is the session's, not its cookie's
session.options({ maxAge: 60 })
// @ts-expect-error: no such value
session.options({ sameSite: 'loose' })

// get and set: a declared key has its type, any other is unknown.
expect<Equal<ReturnType<typeof session.get<'user'>>, string | undefined>>()
const user = session.get('user')
expect<Equal<typeof user, string | undefined>>()
const stranger = session.get('stranger')
expect<Equal<typeof stranger, unknown>>()
session.set('user', 'ada')
session.set('user', undefined)
session.set('stranger', { of: 'any kind' })
// @ts-expect-error: a value of another type
session.set('user', 1)
// @ts-expect-error: keys are text
session.set(1, 'one')

// update: the draft is the data without the members; the result is the function's.
const result = session.update((draft) => {
  expect<Equal<typeof draft, SessionDraft>>()
  expect<Equal<typeof draft.user, string | undefined>>()
  draft.cart ??= []
  delete draft.user
  // @ts-expect-error: a value of another type
  draft.user = 1
  // @ts-expect-error: a key that was not declared
  draft.usr = 'ada'
  // @ts-expect-error: a draft has no members
  draft.touch()
  return draft.cart.push('apple')
})
expect<Equal<typeof result, Promise<number>>>()

// A reserved name is refused where it is used, whatever was declared.
// @ts-expect-error: reserved for later
session.cookie = 'x'
// @ts-expect-error: reserved for later
session.set('cookie', 'x')
// @ts-expect-error: a member's
session.get = 'x'
// @ts-expect-error: a member's
session.set('get', 'x')
// @ts-expect-error: every object's
session.set('__proto__', {})
// @ts-expect-error: every object's
session.set('constructor', 'x')
void session.update((draft) => {
  // @ts-expect-error: reserved for later
  draft.cookie = 'x'
  // @ts-expect-error: a member's
  draft.get = 'x'
})
// What it reads as is no value of the declared type either.
// @ts-expect-error: reserved for later
const cookie: string | undefined = session.cookie

// What JSON does not keep is refused where it is used, unless it is declared as it is read back.
// @ts-expect-error: JSON makes a string of it
session.since = new Date()
// @ts-expect-error: what is read back is no Date
session.since?.getTime()
// @ts-expect-error: JSON makes a string of it
session.set('since', new Date())
// @ts-expect-error: what is read back is no Date
session.get('since')?.getTime()
// @ts-expect-error: JSON drops it
session.seen = new Set(['apple'])
void session.update((draft) => {
  // @ts-expect-error: JSON makes a string of it
  draft.since = new Date()
})
// At any depth, also what has methods.
// @ts-expect-error: JSON makes a string of a part of it
session.owner = { name: 'ada', since: new Date() }
// @ts-expect-error: what is read back has no such part
session.owner?.since.getTime()
// @ts-expect-error: what is read back has no methods
session.orders?.[0]?.total.format()
// @ts-expect-error: JSON drops it
session.calls = { back: () => {} }
session.tags = [{ name: 'new', at: new Date() }]
session.tree = { left: { right: {} } }
expect<Equal<typeof session.key, (string & { readonly brand: 'key' }) | undefined>>()
expect<Equal<typeof session.until, Date | string | undefined>>()
session.until = new Date()
expect<Equal<typeof session.prices, Map<string, number> | undefined>>()
session.prices = new Map([['apple', 1]])
expect<Equal<typeof session.loose, any>>()
session.loose = new Date()
