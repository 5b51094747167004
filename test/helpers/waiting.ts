import { nextTurn } from './stores.ts'

/** Lets happen what happens by itself, without time. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn += 1) await nextTurn()
}

/** A promise, and the function that fulfils it. */
export function signal<T = void>(): [promise: Promise<T>, fulfil: (value: T) => void] {
  let fulfil!: (value: T) => void
  const promise = new Promise<T>((resolve) => {
    fulfil = resolve
  })
  return [promise, fulfil]
}
