/**
 * The list of the sessions of one subject: the key of each, by its lineage. Most subjects have one
 * session: it is kept without a `Map`, which would take more memory than the session itself.
 */
export class Roll {
  readonly stamp: number
  /** Another one since a session was added. */
  version: number
  /** The only session. Undefined: there is none, or there are several. */
  #lineage: string | undefined
  #key = ''
  #several: Map<string, string> | undefined

  constructor(stamp: number, version: number) {
    this.stamp = stamp
    this.version = version
  }

  get isEmpty(): boolean {
    return this.#lineage === undefined && this.#several === undefined
  }

  get(lineage: string): string | undefined {
    if (this.#several !== undefined) return this.#several.get(lineage)
    return lineage === this.#lineage ? this.#key : undefined
  }

  set(lineage: string, key: string): void {
    if (this.isEmpty || lineage === this.#lineage) {
      this.#keepOne(lineage, key)
    } else {
      this.#several ??= new Map(this.entries())
      this.#several.set(lineage, key)
      this.#lineage = undefined
    }
  }

  delete(lineage: string): void {
    if (lineage === this.#lineage) this.#lineage = undefined
    if (this.#several?.delete(lineage) !== true || this.#several.size > 1) return
    const [[left, key]] = this.#several
    this.#several = undefined
    this.#keepOne(left, key)
  }

  entries(): Iterable<readonly [lineage: string, key: string]> {
    if (this.#several !== undefined) return this.#several
    return this.#lineage === undefined ? [] : [[this.#lineage, this.#key]]
  }

  #keepOne(lineage: string, key: string): void {
    this.#lineage = lineage
    this.#key = key
  }
}
