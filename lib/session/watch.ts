import { unavailableError } from '../errors.ts'
import type { Data } from './merge.ts'
import { Session } from './session.ts'

/**
 * Watches a session: from now on `Session.changed()` is called when a key is added. With
 * `everyKey` also when a key is set, or an object is looked at, which can be changed in place.
 *
 * @returns the values that it holds now
 */
export function watch(session: Session, everyKey: boolean): Data {
  const values: Data = { __proto__: null, ...(session as unknown as Data) }
  // An app may have frozen it: then nothing changes.
  Reflect.setPrototypeOf(session, watchedMembers)
  if (!everyKey) return values
  for (const [key, value] of Object.entries(values)) {
    Reflect.defineProperty(session, key, {
      get() {
        if (typeof value === 'object') Session.changed(session)
        return value
      },
      set(changed: unknown) {
        const property = { value: changed, writable: true, enumerable: true, configurable: true }
        Object.defineProperty(session, key, property)
        Session.changed(session)
      },
      enumerable: true,
      configurable: true
    })
  }
  return values
}

/** Stops watching for new keys. */
export function unwatch(session: Session): void {
  Reflect.setPrototypeOf(session, Session.prototype)
}

/** Refuses every key from now on, with a coded error. */
export function close(session: Session): void {
  Object.setPrototypeOf(session, watchedMembers)
  Object.freeze(session)
}

/** Whether a session has other keys than before, or another value under one, by identity. */
export function differs(session: Session, before: Data): boolean {
  const own = session as unknown as Data
  const keys = Object.keys(own)
  return keys.length !== Object.keys(before).length || keys.some((key) => own[key] !== before[key])
}

/**
 * Stands between a session and its members while it is watched or closed. Setting a key that the
 * session does not have comes by here.
 */
const watchedMembers = new Proxy<object>(Object.freeze(Object.create(Session.prototype)), {
  set(members, key, value, session: object) {
    // Only a closed session refuses. Throwing makes it heard in sloppy code too.
    if (!Reflect.set(members, key, value, session)) throw unavailableError()
    Session.changed(session)
    return true
  }
})
