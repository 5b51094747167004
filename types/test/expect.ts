/** True if both are the very same type, not merely assignable to each other. */
export type Equal<One, Other> =
  (<T>() => T extends One ? 1 : 2) extends <T>() => T extends Other ? 1 : 2 ? true : false

/** Compiles if the claim is true: `expect<Equal<typeof value, string>>()`. */
export declare function expect<_Claim extends true>(): void
