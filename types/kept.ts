/**
 * The types of values that your own `serializer` keeps, and JSON does not. Each entry allows one in
 * the data:
 *
 * ```ts
 * declare module 'fastify-holdfast' {
 *   interface SerializerKeeps { date: Date }
 * }
 * ```
 */
export interface SerializerKeeps {}

/** What JSON drops, or makes something else of: a string of a Date. */
type Changed =
  | { toJSON(key: string): unknown }
  | ReadonlyMap<unknown, unknown>
  | ReadonlySet<unknown>
  | WeakMap<object, unknown>
  | WeakSet<object>
  | PromiseLike<unknown>
  | ArrayBufferView
  | ((...given: never) => unknown)
  | bigint
  | symbol

type Scalar = string | number | boolean | null | undefined

/** How deep a value is looked into: a type may hold itself. */
type Deepest = [unknown, unknown, unknown, unknown]

/**
 * The part of a type that JSON does not keep, at any depth: of `{ at: Date }` the Date; never, if
 * JSON keeps it all.
 */
type Lost<Type, Depth extends readonly unknown[] = []> = 0 extends 1 & Type
  ? never
  : Type extends Scalar
    ? never
    : Type extends SerializerKeeps[keyof SerializerKeeps]
      ? never
      : Type extends Changed
        ? Type
        : Depth extends Deepest
          ? never
          : Type extends ReadonlyArray<infer Item>
            ? LostIn<Item, [...Depth, unknown]>
            : Type extends object
              ? { [Key in keyof Type]-?: LostIn<Type[Key], [...Depth, unknown]> }[keyof Type]
              : never

/** `Date | string` says what a Date becomes, and is left alone. */
type LostIn<Type, Depth extends readonly unknown[] = []> = string extends Type
  ? never
  : Lost<Type, Depth>

/**
 * The type of a value as it is read back. One that JSON does not keep accepts no value, so that
 * code that uses it does not compile.
 */
export type Kept<Type> = [LostIn<Type>] extends [never]
  ? Type
  : { 'JSON does not keep this type; declare what is read back, or SerializerKeeps': LostIn<Type> }
