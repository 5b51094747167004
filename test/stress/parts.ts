import type { StoreName } from './open-store.ts'
import { Stress, type Settings } from './stress.ts'

/** What is put in the way, beside three processes and their users. */
type Obstacles = Pick<Settings, 'killEvery' | 'harmEvery' | 'harms'>

export const obstacles = {
  'processes killed': { killEvery: 1500, harmEvery: Infinity, harms: [] },
  'processes killed, answers lost': {
    killEvery: 3000,
    harmEvery: 150,
    harms: ['lose an answer', 'cut']
  },
  'soak: server killed, frozen, cut off': {
    killEvery: Infinity,
    harmEvery: 4000,
    harms: ['lose an answer', 'cut', 'freeze', 'restart']
  }
} as const satisfies Record<string, Obstacles>

export type Part = keyof typeof obstacles

/** A fleet as each part has it. */
export function fleet(store: StoreName, part: Part, seed: number): Stress {
  return new Stress({ store, seed, processes: 3, users: 4, ...obstacles[part] })
}

/**
 * Bytes by which a heap may be larger after a soak than before. In one of ten minutes, some 70
 * bytes a request.
 */
export const heapMargin = 2 * 2 ** 20

/** How a process's heap, without garbage, has changed under load. */
export interface Heap {
  readonly before: number
  readonly after: number
}

/**
 * Loads a fleet that has warmed up, and compares what its processes hold in memory before and
 * after.
 */
export async function soak(stress: Stress, seconds: number): Promise<readonly Heap[]> {
  await stress.load(Math.min(60, seconds / 3))
  const before = await stress.heaps()
  await stress.load(seconds)
  const after = await stress.heaps()
  return before.map((bytes, index) => ({ before: bytes, after: after[index] }))
}
