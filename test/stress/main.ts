// npm run stress: several server processes on one Redis, and on one PostgreSQL, under load and
// under harm; everything that they do is recorded and held to the model of the promises. Prints
// what it did and what it found.
//
//   npm run stress -- [--seconds 60] [--soak 600] [--seed 1] [--stores Redis,PostgreSQL]
import { parseArgs } from 'node:util'
import t from 'tap'

import type { StoreName } from './open-store.ts'
import { fleet, heapMargin, obstacles, soak, type Heap, type Part } from './parts.ts'
import { storeServers } from './servers.ts'
import type { Stress, Tally } from './stress.ts'
import { SubjectStress } from './subject-stress.ts'

// The helpers that start servers are made for tests. This is none: there is nothing to be in time
// for.
t.setTimeout(0)

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    soak: { type: 'string', default: '600' },
    seed: { type: 'string', default: String(Date.now() % 100_000) },
    stores: { type: 'string', default: Object.keys(storeServers).join(',') }
  }
})
const seed = Number(values.seed)
const isTerminal = process.stdout.isTTY
let running: Stress | undefined

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    void Promise.resolve(running?.close()).finally(() => process.exit(1))
  })
}

const head = [
  'on',
  'with',
  'histories',
  'requests',
  'operations',
  'unknown',
  'kills',
  'harms',
  'seconds',
  'violations'
]
const rows: string[][] = []

function row(
  on: string,
  part: Part,
  { histories, requests, operations, unknown, kills, harms, seconds, undecided, violations }: Tally
): string[] {
  const found = `${violations.length}${undecided === 0 ? '' : ` (${undecided} undecided)`}`
  return [
    on,
    part,
    histories,
    requests,
    operations,
    unknown,
    kills,
    harms,
    seconds.toFixed(0),
    found
  ].map(String)
}

function table(): string {
  const widths = head.map((name, column) =>
    Math.max(name.length, ...rows.map((cells) => cells[column].length))
  )
  return [head, ...rows]
    .map((cells) =>
      cells
        .map((cell, column) =>
          column < 2 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])
        )
        .join('  ')
    )
    .join('\n')
}

function progress({ histories, requests, violations }: Tally, seconds: number): void {
  const line = `  ${seconds} s: ${requests} requests, ${histories} histories, ${violations.length} violations`
  if (isTerminal) process.stdout.write(`\r${line}`)
  else if (seconds % 30 === 0) console.log(line)
}

const megabytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1)

async function run(store: StoreName, part: Part): Promise<readonly string[]> {
  const stress = (running = fleet(store, part, seed))
  const started = performance.now()
  const ticking = setInterval(() => {
    progress(stress.tally, Math.round((performance.now() - started) / 1000))
  }, 1000)
  try {
    await stress.start()
    console.log(`\n${stress.on}, ${part}`)
    let heaps: readonly Heap[] = []
    if (part.startsWith('soak')) heaps = await soak(stress, Number(values.soak))
    else await stress.load(Number(values.seconds))
    if (isTerminal) console.log()
    for (const [index, { before, after }] of heaps.entries())
      console.log(
        `  heap of process ${index}: ${megabytes(before)} MB before, ${megabytes(after)} MB after`
      )
    rows.push(row(stress.on, part, stress.tally))
    const leaks = heaps
      .filter(({ before, after }) => after - before > heapMargin)
      .map(({ before, after }) => `a heap grew by ${megabytes(after - before)} MB`)
    return [...stress.tally.violations, ...leaks]
  } finally {
    clearInterval(ticking)
    await stress.close()
  }
}

console.log(`seed ${seed}`)
const wrong: string[] = []
for (const store of values.stores.split(',') as StoreName[]) {
  const { skip } = storeServers[store]
  if (skip !== false) {
    console.log(`\n${store}: left out, since ${skip}`)
    continue
  }
  for (const part of Object.keys(obstacles) as Part[]) {
    if (wrong.length === 0) wrong.push(...(await run(store, part)))
  }
}
for (const store of values.stores.split(',') as StoreName[]) {
  if (storeServers[store].skip !== false || wrong.length > 0) continue
  const stress = new SubjectStress({ store, seed, killEvery: 1500, harmEvery: 150 })
  try {
    await stress.start()
    console.log(`\n${stress.on}, people on several devices`)
    await stress.load(Number(values.seconds))
    const { violations, ...tally } = stress.tally
    console.log(`  ${JSON.stringify(tally)}`)
    wrong.push(...violations)
  } finally {
    await stress.close()
  }
}
console.log(`\n${table()}\n`)
if (wrong.length > 0) {
  console.error(`BROKEN, with seed ${seed}:\n\n${wrong.join('\n\n')}`)
  process.exitCode = 1
} else if (rows.length > 0)
  console.log('P1 to P4 and P11 hold in every history; no rejection went unhandled, no heap grew.')
