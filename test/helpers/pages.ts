import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

/** A fenced block of a page. */
interface Block {
  readonly language: string
  /** What a `ts` block becomes: the name after `file=`, or example-1.ts and so on. */
  readonly file: string
  readonly text: string
  readonly line: number
}

/** A Markdown page of the repository. */
export interface Page {
  readonly path: string
  readonly text: string
  readonly blocks: readonly Block[]
  /** Where its programs are taken out to. */
  readonly folder: string
  /** What `#` may be followed by in a link to the page. */
  readonly anchors: ReadonlySet<string>
  /** The targets of its links. */
  readonly links: readonly string[]
  /**
   * The labels of its links by reference, `[text][label]` or `[label]`, and those that it defines;
   * sorted.
   */
  readonly references: readonly string[]
  readonly definitions: readonly string[]
}

const fence = /^```(\w*)(?: file=(\S+))?\n(.*?)^```$/gms

export function readPage(path: string): Page {
  const text = readFileSync(path, 'utf8')
  const prose = text.replaceAll(fence, '')
  const words = prose.replaceAll(/`[^`\n]*`/g, '')
  let examples = 0
  const blocks = [...text.matchAll(fence)].map(
    ([, language = '', name, code = ''], index, all): Block => {
      const file = name ?? (language === 'ts' ? `example-${++examples}.ts` : '')
      return {
        language,
        file,
        text: code,
        line: text.slice(0, all[index]?.index).split('\n').length
      }
    }
  )
  return {
    path,
    text,
    blocks,
    folder: join('.pages', path.slice(0, -'.md'.length).replaceAll('/', '-')),
    anchors: new Set(
      [...prose.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
        heading
          .toLowerCase()
          .replaceAll(/[^\w -]/g, '')
          .replaceAll(' ', '-')
      )
    ),
    links: [...prose.matchAll(/\]\(([^)]+)\)/g)].map(([, target = '']) => target),
    references: labels(words, /\]\[([^\]]+)\]|(?<!\])\[([^[\]]+)\](?![[(:])/g),
    definitions: labels(words, /^\[([^\]]+)\]: https:\S+$/gm)
  }
}

function labels(text: string, pattern: RegExp): string[] {
  return [
    ...new Set([...text.matchAll(pattern)].map(([, full, short]) => full ?? short ?? ''))
  ].toSorted()
}

/** Every page: those at the top, and those in docs. */
export function readPages(): Page[] {
  const docs = existsSync('docs')
    ? readdirSync('docs', { recursive: true, encoding: 'utf8' }).map((path) => join('docs', path))
    : []
  return [...readdirSync('.'), ...docs].filter((path) => path.endsWith('.md')).map(readPage)
}

/** Where a link of a page leads to in the repository. */
export function resolveLink(
  page: Page,
  target: string
): { path: string; anchor: string | undefined } {
  const [path = '', anchor] = target.split('#')
  return { path: path === '' ? page.path : join(dirname(page.path), path), anchor }
}

/** The rows of a page's tables that begin with a number such as P1, and the test files they link. */
export function rowsWithTests(
  page: Page,
  letter: string
): readonly { readonly name: string; readonly files: readonly string[] }[] {
  const rows = new RegExp(`^\\| (${letter}\\d+) \\|.*$`, 'gm')
  return [...page.text.matchAll(rows)].map(([row, name = '']) => ({
    name,
    files: [...row.matchAll(/\]\(([^)]+\.test\.ts)\)/g)].map(
      ([, target = '']) => resolveLink(page, target).path
    )
  }))
}

export function isTest(file: string): boolean {
  return basename(file).endsWith('.test.ts')
}
