import type { PresentedFormer, PresentedId } from './client.ts'

/** What became of the session cookie that a request presented. */
export class PresentedCookie {
  readonly #presented: PresentedId
  #attributes = ''
  #isStale = false
  #mustBeCleared = false

  constructor(presented: PresentedId) {
    this.#presented = presented
  }

  /** The former sessions whose cookies came with it. */
  get former(): PresentedFormer | undefined {
    return this.#presented.former
  }

  /** The attributes of its own with which it was last sent, as the record notes them. */
  get attributes(): string {
    return this.#attributes
  }

  /**
   * The cookie names a session that does not exist (any more). The browser may have logged in again
   * since, so an empty session must not overwrite its cookie.
   */
  get isStale(): boolean {
    return this.#isStale
  }

  /** The reply must clear the cookie: it names a session that this request removed. */
  get mustBeCleared(): boolean {
    return this.#mustBeCleared
  }

  /** The presented id names a session, whose cookie has these attributes of its own. */
  idAccepted(attributes: string): void {
    this.#attributes = attributes
  }

  /** The presented id names no session, or no more. */
  idRejected(): void {
    const { transport, cookieId, id } = this.#presented
    if (transport === 'cookie' || (cookieId !== undefined && cookieId === id)) this.#isStale = true
  }

  /** This request has removed a session. */
  sessionRemoved(id: string): void {
    if (this.isOf(id)) this.#mustBeCleared = true
  }

  /** Whether it holds this id. */
  isOf(id: string): boolean {
    return this.#presented.cookieId === id
  }
}
