import { setCookies } from '../helpers/serve.ts'
import { advanceUntil, over, patient, scene, second, type Device } from '../helpers/subjects.ts'

over('regenerate() with less than all goes on as nobody', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const device = await signIn()
  await visit(device, (session) => {
    session.a = 'cart'
  })
  await visit(device, (session) => session.regenerate(['a']))
  t.equal(await whoIs(device), undefined)
  t.same((await visit(device, (session) => session.data())).json(), { a: 'cart' })
  t.same((await app.sessions.list('ada')).sessions, [])
})

over('destroy() of a session takes it off the list', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const [one, other] = [await signIn(), await signIn()]
  const old = { ...one }
  await visit(one, (session) => session.destroy())
  t.equal(one.id, undefined)
  t.equal(await whoIs(old), undefined)
  t.equal(await whoIs(other), 'ada')
  t.equal((await app.sessions.list('ada')).sessions.length, 1)
})

over('P11: destroyAll() ends every session of a subject, and no other', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const devices = [await signIn(), await signIn(), await signIn()]
  const grace = await signIn('grace')
  await app.sessions.destroyAll('ada')
  await app.sessions.destroyAll('nobody who has ever signed in')
  for (const device of devices) t.equal(await whoIs(device), undefined)
  t.equal(await whoIs(grace), 'grace')
  t.same((await app.sessions.list('ada')).sessions, [])
  const again = await signIn()
  t.equal(await whoIs(again), 'ada')
  const reply = await visit(again, async (session) => {
    session.a = 'late'
    await app.sessions.destroyAll('ada')
    await t.rejects(session.save(), { code: 'HOLDFAST_SESSION_GONE' })
  })
  t.equal(reply.statusCode, 200)
  t.equal(await whoIs(again), undefined)
})

over('P11: destroyAll() spares the session of the request', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const [mine, other] = [await signIn(), await signIn()]
  const reply = await visit(mine, async (session) => {
    await app.sessions.destroyAll('ada', { except: session })
    session.a = 'goes on'
  })
  t.equal(reply.statusCode, 200, reply.body)
  t.equal(await whoIs(mine), 'ada')
  t.equal(await whoIs(other), undefined)
  const { sessions } = await app.sessions.list('ada')
  t.equal(sessions.length, 1)
  await visit(mine, async (session) => {
    t.match((await app.sessions.list('ada', { current: session })).sessions, [{ isCurrent: true }])
  })
  await visit(mine, async (session) => {
    await session.regenerate('all', { keepLifetime: true })
    await app.sessions.destroyAll('ada', { except: session })
  })
  t.equal(await whoIs(mine), 'ada', 'also where it moves afterwards')
  await visit(mine, async (session) => {
    await app.sessions.destroyAll('ada')
    await t.rejects(app.sessions.destroyAll('ada', { except: session }), {
      code: 'HOLDFAST_SESSION_GONE'
    })
  })
  const nobody: Device = { id: undefined }
  await visit(nobody, async (session) => {
    await t.rejects(app.sessions.destroyAll('ada', { except: session }), {
      code: 'HOLDFAST_VALUE_INVALID'
    })
  })
})

over('P11: a login whose check began before destroyAll() is refused', async (t, over) => {
  const { app, visit } = await scene(over)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'cart'
  })
  const { id } = device
  const reply = await visit(device, async (session) =>
    session.signIn('ada', {
      keep: 'all',
      verify: async () => {
        await app.sessions.destroyAll('ada')
        return true
      }
    })
  )
  t.same([reply.statusCode, reply.json().code], [409, 'HOLDFAST_SIGN_IN_ENDED'])
  t.same(setCookies(reply), [])
  t.equal(device.id, id)
  t.same((await visit(device, (session) => session.data())).json(), { a: 'cart' })
  t.same((await app.sessions.list('ada')).sessions, [])
})

over('P11: a login is refused that is stored after destroyAll()', async (t, over) => {
  const { app, visit } = await scene(over)
  const reply = await visit({ id: undefined }, async (session) => {
    await session.signIn('ada')
    await app.sessions.destroyAll('ada')
    await t.rejects(session.save(), { code: 'HOLDFAST_SIGN_IN_ENDED' })
  })
  t.same([reply.statusCode, setCookies(reply)], [409, []])
  t.same((await app.sessions.list('ada')).sessions, [])
})

over('P1: destroy() ends a session that has stepped up meanwhile', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const device = await signIn()
  await visit({ ...device }, async (session) => {
    t.equal(session.subject, 'ada')
    await visit(device, (other) => other.regenerate('all'))
    await session.destroy()
  })
  t.equal(await whoIs(device), undefined)
  t.same((await app.sessions.list('ada')).sessions, [])
})

over('P8: a move that first meets a write, and then loses its answer, is made', async (t, over) => {
  const { visit, whoIs } = await scene(over, patient)
  const device: Device = { id: undefined }
  await visit(device, (session) => {
    session.a = 'cart'
  })
  const before = { ...device }
  let retires = 0
  over.store.intercept = ({ verb }, pass) => {
    if (verb !== 'retire' || (retires += 1) !== 2) return pass()
    return Promise.resolve(pass()).then(() => {
      throw new Error('its answer is lost')
    })
  }
  // It pauses before it asks again.
  const visited = visit(device, async (session) => {
    await session.signIn('ada', { keep: ['a'] })
    await visit(before, (other) => {
      other.b = 'meanwhile'
    })
  })
  const reply = await advanceUntil(over.clock, visited)
  t.equal(reply.statusCode, 200, reply.body)
  t.equal(retires, 2)
  t.equal(await whoIs(device), 'ada')
  t.equal(await whoIs(before), undefined)
})

over('P8: a creation that comes late does not take the place of a session', async (t, over) => {
  const { app, signIn, whoIs } = await scene(over)
  let come: (() => unknown) | undefined
  const { intercept } = over.store
  over.store.intercept = ({ verb, key }, pass) => {
    if (verb !== 'create' || !key.includes('.') || come !== undefined) return pass()
    come = pass
    return Promise.reject(new Error('it is lost'))
  }
  const device = await signIn()
  over.store.intercept = intercept
  await come?.()
  t.equal(await whoIs(device), 'ada')
  await app.sessions.destroyAll('ada')
  t.equal(await whoIs(device), undefined)
})

over('destroyEverything() ends the sessions of all subjects', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const nobody: Device = { id: undefined }
  await visit(nobody, (session) => {
    session.a = 'anonymous'
  })
  const devices = [await signIn('ada'), await signIn('grace')]
  const reply = await visit({ id: undefined }, (session) =>
    session.signIn('ada', {
      verify: async () => {
        await app.sessions.destroyEverything()
        return true
      }
    })
  )
  t.equal(reply.json().code, 'HOLDFAST_SIGN_IN_ENDED')
  for (const device of devices) t.equal(await whoIs(device), undefined)
  t.same((await visit(nobody, (session) => session.data())).json(), { a: 'anonymous' })
  t.equal(await whoIs(await signIn('ada')), 'ada')
})

over('P8: a store that fails ends nobody, and says what is not known', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const device = await signIn()
  const { intercept } = over.store
  over.breakDown()
  await t.rejects(app.sessions.destroyAll('ada'), { code: 'HOLDFAST_STORE_FAILED' })
  await t.rejects(app.sessions.list('ada'), { code: 'HOLDFAST_STORE_FAILED' })
  await t.rejects(app.sessions.destroyEverything(), { code: 'HOLDFAST_STORE_FAILED' })
  over.store.intercept = intercept
  t.equal(await whoIs(device), 'ada')
  for (const verb of ['stamp', 'create'] as const) {
    const fresh: Device = { id: undefined }
    await visit(fresh, (session) => {
      session.a = 'mine'
    })
    const { id } = fresh
    over.store.intercept = async (call, pass) => {
      if (call.verb === verb) throw new Error('out of order')
      return intercept(call, pass)
    }
    const reply = await visit(fresh, (session) => session.signIn('ada', { keep: 'all' }))
    over.store.intercept = intercept
    t.equal(reply.statusCode, 503, `${verb}: ${reply.body}`)
    t.equal(fresh.id, id, verb)
    t.same((await visit(fresh, (session) => session.data())).json(), { a: 'mine' }, verb)
  }
  t.equal((await app.sessions.list('ada')).sessions.length, 1)
})

over('a sign-in whose answer was lost is made good', async (t, over) => {
  const { app, visit, whoIs } = await scene(over)
  const { intercept } = over.store
  over.store.intercept = async (call, pass) => {
    const answer = await intercept(call, pass)
    if (call.verb !== 'create') return answer
    over.store.intercept = intercept
    throw new Error('the answer is lost')
  }
  const device: Device = { id: undefined }
  const reply = await visit(device, (session) => session.signIn('ada'))
  t.equal(reply.statusCode, 200)
  t.equal(await whoIs(device), 'ada')
  t.equal((await app.sessions.list('ada')).sessions.length, 1, 'and is there once')
})

over('P11: destroyAll() wins over a check in the session that it spares', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const [mine, other] = [await signIn(), await signIn()]
  const at = async (): Promise<unknown> =>
    (await visit({ ...mine }, (session) => ({ at: session.authenticatedAt }))).json().at
  const before = await at()
  await over.advance(5 * second)
  for (const act of ['signIn', 'reauthenticate'] as const) {
    const late = await visit(mine, async (session) => {
      const verify = async (): Promise<boolean> => {
        await visit({ ...mine }, (same) => app.sessions.destroyAll('ada', { except: same }))
        return true
      }
      await (act === 'signIn' ? session.signIn('ada', { verify }) : session.reauthenticate(verify))
    })
    t.same([late.statusCode, late.json().code], [409, 'HOLDFAST_SIGN_IN_ENDED'], act)
    t.equal(await at(), before, 'the session goes on as it was')
  }
  t.equal(await whoIs(other), undefined)
  const third = await signIn()
  const fresh: Device = { id: undefined }
  const reply = await visit(fresh, async (session) => {
    await session.signIn('ada')
    await app.sessions.destroyAll('ada', { except: session })
    session.a = 'goes on'
  })
  t.equal(reply.statusCode, 200, reply.body)
  t.equal(await whoIs(fresh), 'ada')
  for (const device of [mine, third]) t.equal(await whoIs(device), undefined)
  t.equal((await app.sessions.list('ada')).sessions.length, 1)
})

over('who ends all other sessions can sign in again at once', async (t, over) => {
  const { app, visit, signIn, whoIs } = await scene(over)
  const device = await signIn()
  const reply = await visit(device, async (session) => {
    await app.sessions.destroyAll('ada', { except: session })
    return session.signIn('ada')
  })
  t.equal(reply.statusCode, 200, reply.body)
  t.equal(await whoIs(device), 'ada')
  const ended = await visit(device, async (session) => {
    await app.sessions.destroyAll('ada')
    return session.signIn('ada')
  })
  t.equal(ended.json().code, 'HOLDFAST_SESSION_GONE', 'its own has ended, too')
  t.equal(await whoIs(device), undefined)
})
