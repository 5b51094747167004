import { readFileSync } from 'node:fs'
import t from 'tap'

const text = readFileSync('docs/comparison.md', 'utf8')
const [above = ''] = text.split('\n\n| |')

t.test(
  'the comparison links to the source of the versions that it names, and to no other',
  async (t) => {
    const links = [...text.matchAll(/https:\/\/unpkg\.com\/((?:@[\w-]+\/)?[\w-]+)@([\d.]+)\//g)]
    t.ok(links.length >= 7)
    for (const [link, name = '', version = ''] of links)
      t.ok(above.replaceAll('\n', ' ').includes(`${name} ${version}`), link)
  }
)
