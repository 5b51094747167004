import type { FastifyInstance, LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'

import type { Session, SessionOptions } from '../../lib/index.ts'
import type { TestClock } from '../../lib/testing/index.ts'
import { overEach, type Over } from './attack.ts'
import { backends, later, moving } from './backends.ts'
import { carriedBy } from './browser.ts'
import './data.ts'
import { nextTurn } from './stores.ts'

const stores = [...backends, later, moving]
/** Milliseconds. */
export const second = 1000

/** Somebody with a cookie. */
export interface Device {
  id: string | undefined
}

/** An app whose requests have a handler each, and devices that keep what they are given. */
export interface Scene {
  readonly app: FastifyInstance
  readonly visit: (
    device: Device,
    work: (session: Session) => unknown
  ) => Promise<LightMyRequestResponse>
  readonly signIn: (subject?: string, info?: unknown) => Promise<Device>
  /** Reads who is signed in on a device. */
  readonly whoIs: (device: Device) => Promise<unknown>
}

export async function scene(
  over: Pick<Over, 'serve'>,
  options: SessionOptions = {}
): Promise<Scene> {
  const { app } = await over.serve(options)
  const works = new Map<string, (session: Session) => unknown>()
  app.get('/visit', async ({ session, headers }) => {
    return (await works.get(headers['x-work'] as string)?.(session)) ?? ''
  })
  let count = 0
  const visit: Scene['visit'] = async (device, work) => {
    const key = String((count += 1))
    works.set(key, work)
    const cookie = device.id === undefined ? {} : { cookie: `session_id=${device.id}` }
    const reply = await app.inject({ url: '/visit', headers: { 'x-work': key, ...cookie } })
    const sent = carriedBy(reply).cookie
    if (sent !== undefined) device.id = sent === '' ? undefined : sent
    return reply
  }
  return {
    app,
    visit,
    async signIn(subject = 'ada', info) {
      const device: Device = { id: undefined }
      const reply = await visit(device, (session) => session.signIn(subject, { info }))
      if (reply.statusCode !== 200) throw new Error(reply.body)
      return device
    },
    async whoIs(device) {
      return (await visit({ ...device }, (session) => ({ subject: session.subject }))).json()
        .subject
    }
  }
}

/** For scenes in which time passes while a real server works, however busy the machine is. */
export const patient: SessionOptions = { storeTimeout: 24 * 60 * 60 }

/**
 * Lets time pass, a little at a time, until something is done. The scene should be `patient`: a
 * real server may take more turns than a timeout has milliseconds.
 */
export async function advanceUntil<T>(clock: TestClock, work: Promise<T>): Promise<T> {
  let isOver = false
  const end = (): void => {
    isOver = true
  }
  work.then(end, end)
  while (!isOver) {
    await nextTurn()
    clock.advance(1)
  }
  return work
}

/** A test over every store that keeps the sessions of subjects. */
export function over(name: string, test: (t: Test, over: Over) => Promise<void>): void {
  overEach(stores, t, name, test)
}

/** The user of the data is who is signed in. */
export const byData: SessionOptions = { subject: (data) => data.user }
