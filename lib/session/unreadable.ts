import { SessionError } from '../errors.ts'
import { Session } from './session.ts'

/** What a session has that does without its data. */
const reachable: ReadonlySet<PropertyKey> = new Set(
  (
    'id publicId isNew transport cookieWithheld subject authenticatedAt signal ' +
    'update save reload regenerate signIn reauthenticate destroy'
  ).split(' ')
)

/**
 * Stands before a session whose record this process cannot read. As long as that holds, whoever
 * asks for its data gets an error: an empty session would look like one that is signed out.
 */
export function guardUnreadable(session: Session, isUnreadable: () => boolean): Session {
  const check = (key: PropertyKey): void => {
    if (isUnreadable() && typeof key === 'string' && !reachable.has(key)) {
      throw new SessionError('HOLDFAST_DATA_UNDECODABLE')
    }
  }
  return new Proxy(session, {
    get(target, key) {
      check(key)
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' && key in Session.prototype
        ? (value.bind(target) as unknown)
        : value
    },
    set(target, key, value) {
      check(key)
      return Reflect.set(target, key, value, target)
    },
    has(target, key) {
      check(key)
      return Reflect.has(target, key)
    },
    deleteProperty(target, key) {
      check(key)
      return Reflect.deleteProperty(target, key)
    },
    defineProperty(target, key, descriptor) {
      check(key)
      return Reflect.defineProperty(target, key, descriptor)
    },
    getOwnPropertyDescriptor(target, key) {
      check(key)
      return Reflect.getOwnPropertyDescriptor(target, key)
    },
    ownKeys(target) {
      check('')
      return Reflect.ownKeys(target)
    }
  })
}
