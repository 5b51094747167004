import { SessionError } from '../errors.ts'

/**
 * What the functions inherit that a session or its data shows: copies of three methods. No other
 * name leads on from a function, and to set one throws.
 */
const copies: object = Object.create(null) as object
const functionMembers: object = new Proxy(copies, { set: refuseAssignment })
for (const name of ['call', 'apply', 'bind'] as const) {
  Object.defineProperty(copies, name, { value: copyOf(Function.prototype[name]) })
}
Object.freeze(copies)

/** What arrays in the data inherit: copies of the methods that all arrays share. */
export const arrayMembers: object = Object.create(Array.prototype) as object
const shared = { ...descriptorsOf(Object.prototype), ...descriptorsOf(Array.prototype) }
for (const [name, { value }] of Object.entries(shared)) {
  const isMethod = typeof value === 'function' && name !== 'constructor'
  const member = isMethod ? copyOf(value as () => unknown) : undefined
  seal(arrayMembers, name, { get: () => member })
}
Object.freeze(arrayMembers)

/**
 * Makes the methods and accessors of a prototype all that its objects inherit, and has no name lead
 * from them to what others share. To set one throws, also in code that is not strict.
 *
 * @param free names that read as undefined, and are kept free
 */
export function sealMembers<Members extends object>(
  members: Members,
  free: readonly string[]
): Readonly<Members> {
  for (const [name, descriptor] of Object.entries(descriptorsOf(members))) {
    const value: unknown = descriptor.value
    if (typeof value === 'function' && name !== 'constructor') lock(value)
    seal(members, name, value === undefined ? descriptor : { get: () => value })
  }
  for (const name of ['constructor', '__proto__', ...free]) {
    seal(members, name, { get: () => undefined })
  }
  return Object.freeze(Object.setPrototypeOf(members, null) as Members)
}

/** Makes a member an accessor, which refuses to be set unless it has a way. */
function seal(members: object, name: string, accessor: PropertyDescriptor): void {
  const property = { ...accessor, configurable: true }
  if (property.set === undefined) property.set = refuseAssignment
  Object.defineProperty(members, name, property)
}

function refuseAssignment(): never {
  throw new SessionError('HOLDFAST_KEY_RESERVED')
}

/** Returns a locked function that does the same as one that others share. */
function copyOf(method: (...given: never[]) => unknown): object {
  const holder = {
    // A function of this form has no property `prototype`.
    copy(this: unknown, ...given: never[]): unknown {
      return Reflect.apply(method, this, given)
    }
  }
  // oxlint-disable-next-line typescript/unbound-method -- it is given another `this`
  return lock(holder.copy)
}

/** Takes from a function all names but those of `functionMembers`. */
function lock(method: object): object {
  for (const name of Object.getOwnPropertyNames(method)) Reflect.deleteProperty(method, name)
  return Object.freeze(Object.setPrototypeOf(method, functionMembers) as object)
}

function descriptorsOf(members: object): Readonly<Record<string, PropertyDescriptor>> {
  return Object.getOwnPropertyDescriptors(members)
}
