import type { PresentedId, SessionClient } from './client.ts'
import type { SessionConfig } from './config.ts'
import { loginOf, type Login } from './login.ts'
import type { SessionInfo } from './session-parts.ts'
import type { SessionState } from './state.ts'
import type { Transport } from '../../types/session.ts'

/** What a session shows of its state. */
export class StateInfo implements SessionInfo {
  readonly #state: SessionState
  readonly #presented: PresentedId
  readonly #config: SessionConfig
  readonly #client: SessionClient | undefined

  /** @param client undefined: the session is that of no request */
  constructor(
    state: SessionState,
    presented: PresentedId,
    config: SessionConfig,
    client: SessionClient | undefined
  ) {
    this.#client = client
    this.#state = state
    this.#presented = presented
    this.#config = config
  }

  showId(): string {
    return this.#state.identity.show().id
  }

  showPublicId(): string {
    return this.#state.identity.show().handle
  }

  get signal(): AbortSignal {
    return this.#config.ends.signalOf(this.#state, this.#client)
  }

  get isSigningIn(): boolean {
    return this.#state.identity.signIn !== undefined
  }

  get isNew(): boolean {
    return this.#state.identity.isNew
  }

  get transport(): Transport | undefined {
    return this.isNew ? undefined : this.#presented.transport
  }

  get createdAt(): number {
    return this.#state.createdAt
  }

  get expiresAt(): number {
    return this.#state.expiresAt
  }

  get subject(): string | undefined {
    return this.#login?.subject
  }

  get authenticatedAt(): number | undefined {
    return this.#login?.authenticatedAt
  }

  /** Who is signed in, or will be with the commit. */
  get #login(): Login | undefined {
    return this.#state.identity.isRefused ? undefined : loginOf(this.#state)
  }

  get maxAge(): number {
    return this.#state.data.maxAge ?? this.#config.lifetimes.idle / 1000
  }

  set maxAge(seconds: number | undefined) {
    this.#state.data.maxAge = seconds
  }
}
