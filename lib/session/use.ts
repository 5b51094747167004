/** Whether a request is a use of its session, which moves the expiry. */
export class Use {
  readonly #isByItself: boolean
  #isTouchRequested = false

  /** @param isByItself whether the request is one if nobody asks for a touch */
  constructor(isByItself: boolean) {
    this.#isByItself = isByItself
  }

  get isUse(): boolean {
    return this.#isByItself || this.#isTouchRequested
  }

  /** Whether a touch was asked for, and is yet to be made. */
  get isTouchRequested(): boolean {
    return this.#isTouchRequested
  }

  /** Asks for a touch. Returns whether it is the first time. */
  requestTouch(): boolean {
    const isFirst = !this.#isTouchRequested
    this.#isTouchRequested = true
    return isFirst
  }

  touched(): void {
    this.#isTouchRequested = false
  }
}
