import type { SessionMembers } from '../../types/session.ts'

/** What a session shows beside its data. */
export interface SessionInfo extends Pick<
  SessionMembers,
  'isNew' | 'transport' | 'createdAt' | 'expiresAt' | 'subject' | 'authenticatedAt'
> {
  /** Returns the id, which the handler may now have put somewhere: it will not be replaced. */
  showId(): string
  showPublicId(): string
  /** Aborts when the session ends. */
  readonly signal: AbortSignal
  /** Whether a sign-in waits for the commit. */
  readonly isSigningIn: boolean
  get maxAge(): number
  set maxAge(seconds: number | undefined)
}

/** What a session asks of the request that it belongs to. */
export interface SessionOperations extends Pick<
  SessionMembers,
  'options' | 'touch' | 'update' | 'save' | 'reload' | 'destroy'
> {
  /** Whether the browser may have kept the session cookie back. */
  readonly isCookieWithheld: boolean
  regenerate(keep: unknown, options: unknown): Promise<void>
  signIn(subject: unknown, options: unknown): Promise<boolean>
  reauthenticate(verify: unknown): Promise<boolean>
  /** Called after a change, or what may be one. Only one that follows the commit matters. */
  changed(): void
}
