import { readFileSync } from 'node:fs'

/** The names of the tests in a source file, one to a line; a part in `${}` stands as it is written. */
export function testNames(file: string): string {
  const calls =
    /\b(?:test|over\w*)\(\s*(?:(?:\w+,\s*)?t,\s*)?(['"`])((?:\\.|(?!\1)[^\\])*)\1\s*[,+]/g
  return [...readFileSync(file, 'utf8').matchAll(calls)].map(([, , name]) => name).join('\n')
}
