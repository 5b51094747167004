import { isDeepStrictEqual } from 'node:util'
import t, { type Test } from 'tap'

import '../helpers/data.ts'
import type { Session } from '../../lib/index.ts'
import { carriedBy } from '../helpers/browser.ts'
import { nextTurn, slow } from '../helpers/stores.ts'
import { world, type World } from '../helpers/world.ts'

/** What may befall a store call, as the store sees it. */
const fates = {
  'fails before it takes effect': async () => {
    throw new Error('connection refused')
  },
  'takes effect, and its answer is lost': async (pass: () => unknown) => {
    await pass()
    throw new Error('connection reset')
  },
  'never answers': () => new Promise<never>(() => {}),
  'takes effect, and never answers': async (pass: () => unknown) => {
    await pass()
    return await new Promise<never>(() => {})
  }
} as const

interface Path {
  readonly run: (session: Session) => unknown
  /** What is stored if the request does it. It is null if the session is gone. */
  readonly done: Record<string, unknown> | null
}

/** Every path of a request through the store. */
const paths: Record<string, Path> = {
  read: { run: (session) => ({ ...session }), done: { a: 'old', n: 0 } },
  touch: { run: (session) => session.touch(), done: { a: 'old', n: 0 } },
  write: { run: write, done: { a: 'new', n: 0 } },
  update: { run: count, done: { a: 'old', n: 1 } },
  'update, then write': {
    async run(session) {
      await count(session)
      write(session)
    },
    done: { a: 'new', n: 1 }
  },
  save: {
    async run(session) {
      write(session)
      await session.save()
    },
    done: { a: 'new', n: 0 }
  },
  regenerate: {
    async run(session) {
      await session.regenerate()
      write(session)
    },
    done: null
  },
  destroy: { run: (session) => session.destroy(), done: null }
}

function write(session: Session): void {
  session.a = 'new'
}

async function count(session: Session): Promise<void> {
  await session.update((draft) => {
    draft.n = (draft.n ?? 0) + 1
  })
}

/** A world whose browser has a session that holds a: 'old', n: 0, over a store that is slow. */
async function begin(t: Test): Promise<World> {
  const scene = await world(t, {}, { wrap: slow })
  await scene.visit((session) => {
    Object.assign(session, { a: 'old', n: 0 })
  })
  scene.store.taken()
  return scene
}

function isAmong(data: object | null, allowed: readonly unknown[]): boolean {
  const plain = data === null ? null : { ...data }
  return allowed.some((one) => isDeepStrictEqual(one, plain))
}

for (const [name, { run, done }] of Object.entries(paths)) {
  t.test(
    `P4, P8: ${name}, with a fault at each of its store calls, is done once or answers 503, and everything works again afterwards`,
    async (t) => {
      for (const [befalls, befall] of Object.entries(fates)) {
        for (let place = 0; ; place += 1) {
          const { app, browser, clock, route, store, ...scene } = await begin(t)
          const usual = store.intercept
          const id = scene.id()

          let calls = 0
          let struck: string | undefined
          store.intercept = (call, pass) => {
            if (calls++ !== place) return usual(call, pass)
            struck = call.verb
            return befall(pass)
          }
          let reply
          void browser.send(route(run)).then((answer) => {
            reply = answer
          })
          while (reply === undefined) {
            await nextTurn()
            clock.advance(100)
          }
          store.intercept = usual
          if (struck === undefined) break
          const what = `${struck}, call ${place + 1}, ${befalls}`

          const { statusCode } = reply as { statusCode: number }
          const { cookie } = carriedBy(reply)
          t.ok([200, 503].includes(statusCode), `${what}: ${statusCode}`)
          const stored = (await scene.stored(id)) ?? null
          if (statusCode === 200 || struck === 'touch') t.same(stored, done, `${what}: done`)
          else
            t.ok(
              isAmong(stored, [
                { a: 'old', n: 0 },
                done,
                ...(name === 'update, then write' ? [{ a: 'old', n: 1 }] : [])
              ]),
              `${what}: done or not: ${JSON.stringify(stored)}`
            )
          if (statusCode === 503) {
            t.match((reply as { body: string }).body, 'HOLDFAST_STORE_', what)
            t.equal(cookie, undefined, `${what}: no id`)
          }
          t.equal((await browser.get('/read')).statusCode, 200, `${what}: works again`)
          await app.close()
        }
      }
    }
  )
}

t.test(
  'an update whose answer is lost is found among the writes that others have made since, and not made again',
  async (t) => {
    const { app, browser, clock, id, store } = await begin(t)
    const { browser: elsewhere } = await world(t, { clock, store })
    elsewhere.cookies.set('session_id', id())
    for (const [others, statusCode, n] of [
      [3, 200, 4],
      [9, 503, 10]
    ] as const) {
      await app.sessions.update(app.sessions.publicIdOf(id()), (draft) => {
        draft.n = 0
      })
      const usual = store.intercept
      store.intercept = async (call, pass) => {
        const answer = await usual(call, pass)
        if (call.verb !== 'update') return answer
        store.intercept = usual
        for (let count = 0; count < others; count += 1)
          t.equal((await elsewhere.send('/update')).statusCode, 200)
        throw new Error('connection reset')
      }
      const reply = await browser.send('/update')
      t.equal(reply.statusCode, statusCode)
      if (statusCode === 503) t.equal(reply.json().code, 'HOLDFAST_OUTCOME_UNKNOWN')
      t.equal((await browser.get('/read')).json().n, n, `${others} others and this one, each once`)
    }
  }
)
