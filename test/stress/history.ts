import { isPlain, type Data, type Step } from '../races/program.ts'

/** A request as its client and the recorder saw it. */
export interface Recorded {
  readonly number: number
  readonly transport: 'cookie' | 'header'
  readonly carriesId: boolean
  /** The request whose own id it carries. Undefined: it carries the id of the history. */
  readonly under: number | undefined
  readonly steps: readonly Step[]
  /** Which server it was sent to. */
  readonly server: number
  /**
   * What it did, one phase after the other: resolving, each step that reaches the store, the
   * commit.
   */
  readonly phases: Phase[]
  /** What it told its client in the end; undefined: nobody knows. */
  told: Told | undefined
  /**
   * A call that its server made to the store failed while it ran: what the model has of faults may
   * have befallen it.
   */
  faulty: boolean
  /** How its outcome came to be unknown. */
  unknown: string | undefined
}

/**
 * What takes effect at one instant, which lies between the two. Milliseconds of the recorder's
 * clock, the only one.
 */
export interface Phase {
  readonly invoked: number
  /** Infinity: nobody knows whether it took effect, takes effect later, or never does. */
  returned: number
  /**
   * What the session held for the handler afterwards. Undefined after the commit, which no handler
   * sees.
   */
  saw: Data | undefined
}

export type Told = 'the session' | 'its own' | 'clear' | 'nothing' | 'gone'

/**
 * All that was done under one id, and what it named at the start (null: nothing); and under the ids
 * that the requests were told, for the session may have gone on as any of them. No other id has a
 * part in it.
 */
export interface History {
  readonly id: string
  readonly initial: Data | null
  readonly requests: readonly Recorded[]
}

/** What a phase does, in words. */
export function phaseName({ steps }: Recorded, place: number): string {
  const phases: string[][] = [['resolve']]
  for (const step of steps) {
    if (isPlain(step)) phases.at(-1)?.push(step)
    else phases.push([step])
  }
  return phases[place]?.join(', then ') ?? 'commit'
}
