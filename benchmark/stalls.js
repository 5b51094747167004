// How long the event loop stood still, and how long the steps of the store took; what the collector
// took is told apart.
import { performance, PerformanceObserver } from 'node:perf_hooks'

export class StallWatch {
  #collections = []
  #gaps = []
  #steps = 0
  #longSteps = []
  #timer
  #observer

  /** From now on. The verbs of the store count as steps. */
  start(store) {
    this.#collections = []
    this.#gaps = []
    this.#steps = 0
    this.#longSteps = []
    this.#observer = new PerformanceObserver((list) => {
      for (const { startTime, duration } of list.getEntries())
        this.#collections.push({ from: startTime, to: startTime + duration })
    })
    this.#observer.observe({ entryTypes: ['gc'] })
    for (const verb of ['get', 'create', 'update', 'touch', 'delete', 'retire', 'move']) {
      if (store?.[verb] !== undefined && !Object.hasOwn(store, verb))
        store[verb] = (...args) =>
          this.step(() => Object.getPrototypeOf(store)[verb].apply(store, args))
    }
    let last = performance.now()
    this.#timer = setInterval(() => {
      const now = performance.now()
      if (now - last > 2) this.#gaps.push({ from: last + 1, to: now })
      last = now
    }, 1)
  }

  /** Runs a step, and notes its length if that matters. */
  step(run) {
    if (this.#timer === undefined) return run()
    const from = performance.now()
    const answer = run()
    const to = performance.now()
    this.#steps += 1
    if (to - from > 0.02) this.#longSteps.push({ from, to })
    return answer
  }

  /** Steps of known length that touch no store: how long they take tells what the machine adds. */
  async spin(milliseconds, each) {
    const end = performance.now() + milliseconds
    while (performance.now() < end) {
      this.step(() => {
        for (const until = performance.now() + each; performance.now() < until;);
      })
      await new Promise((resolve) => {
        setTimeout(resolve, 1)
      })
    }
  }

  /** Milliseconds. */
  async stop() {
    clearInterval(this.#timer)
    this.#timer = undefined
    // The observer is told of collections a turn late.
    await new Promise((resolve) => {
      setTimeout(resolve, 50)
    })
    this.#observer.disconnect()
    const lengths = (spans) => spans.map((span) => span.to - span.from - this.#collecting(span))
    const steps = lengths(this.#longSteps)
    return {
      stall: Math.max(0, ...lengths(this.#gaps)),
      stallWithGc: Math.max(0, ...this.#gaps.map(({ from, to }) => to - from)),
      gc: Math.max(0, ...this.#collections.map(({ from, to }) => to - from)),
      step: Math.max(0, ...steps),
      over: steps.filter((length) => length > 1).length,
      steps: this.#steps
    }
  }

  #collecting({ from, to }) {
    let sum = 0
    for (const each of this.#collections)
      sum += Math.max(0, Math.min(to, each.to) - Math.max(from, each.from))
    return sum
  }
}
