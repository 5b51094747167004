/** How many values a generation has: two are kept. */
const places = 512

/**
 * Keeps what was made last of a text. A page requests the same session many times in a row: what
 * takes long is made once for all of them. Only texts that are as short as ids are kept.
 *
 * A text is found by the hash of all of it, which the engine seeds at random: how long that takes
 * does not tell how much of an id is right.
 */
export class Recent<Value> {
  readonly #make: (text: string) => Value
  /** What was asked for since there was no more room, and before that. */
  #values = new Map<string, Value>()
  #older = new Map<string, Value>()

  /** @param make makes the value of a text, which is always the same, and not undefined */
  constructor(make: (text: string) => Value) {
    this.#make = make
  }

  get(text: string): Value {
    const kept = this.#values.get(text)
    if (kept !== undefined) return kept
    const copy = copyOf(text)
    if (copy !== text) return this.#make(text)
    // Of the copy, for a value may have a part of it.
    const value = this.#older.get(text) ?? this.#make(copy)
    this.#keep(copy, value)
    return value
  }

  #keep(text: string, value: Value): void {
    if (this.#values.size === places) {
      this.#older = this.#values
      this.#values = new Map()
    }
    this.#values.set(text, value)
  }
}

const scratch = Buffer.alloc(128)

/**
 * Copies a text of up to 128 characters of Latin-1. A part of a string keeps all of it in memory,
 * such as the request's header; a copy does not.
 */
export function copyOf(text: string): string {
  return scratch.toString('latin1', 0, scratch.write(text, 'latin1'))
}
