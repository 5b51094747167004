/** How many values are kept: a power of two. */
const places = 1024

/**
 * Keeps what was made last of a text. A page requests the same session many times in a row: what
 * takes long is made once for all of them. Each text has one place, which the next one for that
 * place takes over. Only texts that are as short as ids are kept.
 */
export class Recent<Value> {
  readonly #make: (text: string) => Value
  readonly #texts: Array<string | undefined> = Array.from({ length: places })
  readonly #values: Value[] = []

  /** @param make makes the value of a text, which is always the same */
  constructor(make: (text: string) => Value) {
    this.#make = make
  }

  get(text: string): Value {
    const place = placeOf(text)
    if (this.#texts[place] === text) return this.#values[place]
    const value = this.#make(text)
    const copy = copyOf(text)
    if (copy !== text) return value
    this.#texts[place] = copy
    this.#values[place] = value
    return value
  }
}

const scratch = Buffer.alloc(128)

/**
 * Copies a text of up to 128 characters of Latin-1. A part of a string keeps all of it in memory,
 * such as the request's header; a copy does not.
 */
function copyOf(text: string): string {
  return scratch.toString('latin1', 0, scratch.write(text, 'latin1'))
}

/** Hashes the last 8 characters (FNV-1a): ids differ there as anywhere. */
function placeOf(text: string): number {
  let hash = 0
  for (let index = Math.max(0, text.length - 8); index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 16_777_619)
  }
  return (hash >>> 0) % places
}
