import { FormerPlugin } from './former-plugin.ts'
import { check } from '../errors.ts'
import type { CarryOver, CarryOverOptions } from '../../types/migrate.ts'

export type {
  CarryOver,
  CarryOverOptions,
  FormerSession,
  FormerStore
} from '../../types/migrate.ts'

const names: Readonly<Record<keyof CarryOverOptions, true>> = {
  cookie: true,
  secret: true,
  unsign: true,
  store: true,
  data: true,
  maxAge: true,
  scope: true,
  sideBySide: true
}

/**
 * Describes the sessions of the plugin that the app had before, for the option `carryOver`: each is
 * taken over by the first request that brings its cookie, once, however many bring it at the same
 * time.
 *
 * ```ts
 * const former = carryOver({ cookie: 'connect.sid', secret, store: new RedisStore({ client }) })
 * await app.register(sessionPlugin, { carryOver: former })
 * ```
 *
 * @throws HOLDFAST_OPTION_INVALID
 */
export function carryOver(options: CarryOverOptions): CarryOver {
  const given = Object(options) as CarryOverOptions
  const unknown = Object.keys(given).find((name) => !Object.hasOwn(names, name))
  const list = Object.keys(names).join(', ')
  check(unknown === undefined, 'carryOver', `given none but the options ${list}`)
  const { cookie, secret, unsign, store, data, maxAge, scope = {}, sideBySide } = given
  check(
    typeof cookie === 'string' && /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(cookie),
    'carryOver.cookie',
    "the name of the former cookie, such as 'connect.sid'"
  )
  const secrets: unknown[] = secret === undefined ? [] : [secret].flat()
  check(
    unsign === undefined ? secrets.length > 0 && secrets.every(isSecret) : secret === undefined,
    'carryOver.secret',
    'the secret of the former cookie, or a list of them; or leave it out and give unsign'
  )
  for (const [name, value] of Object.entries({ unsign, data, maxAge })) {
    check(value === undefined || typeof value === 'function', `carryOver.${name}`, 'a function')
  }
  check(
    typeof store?.get === 'function' && typeof store.destroy === 'function',
    'carryOver.store',
    'the store of the former plugin, with get(id, callback) and destroy(id, callback)'
  )
  check(
    typeof scope === 'object' &&
      scope !== null &&
      Object.entries(scope).every(([key, value]) => {
        if (key === 'partitioned') return typeof value === 'boolean'
        return ['domain', 'path'].includes(key) && typeof value === 'string'
      }),
    'carryOver.scope',
    'an object with domain, path and partitioned, as the former cookie had them'
  )
  check(
    sideBySide === undefined || typeof sideBySide === 'boolean',
    'carryOver.sideBySide',
    'true or false'
  )
  return Object.freeze(new FormerPlugin({ ...given }))
}

function isSecret(value: unknown): boolean {
  if (typeof value === 'string') return value !== ''
  return value instanceof Uint8Array && value.byteLength > 0
}
