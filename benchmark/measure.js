// What all questions share: interleaved rounds, medians, spread.

/**
 * Samples every subject once per round, so that what the machine does meanwhile meets all alike.
 * The order turns with the rounds. Answers, by subject, its samples in the order of the rounds.
 */
export async function interleave(subjects, rounds, sample, progress = () => {}) {
  const samples = new Map(subjects.map((subject) => [subject, []]))
  for (let round = 0; round < rounds; round += 1) {
    const first = round % subjects.length
    for (const subject of [...subjects.slice(first), ...subjects.slice(0, first)])
      samples.get(subject).push(await sample(subject, round))
    progress(round + 1, rounds)
  }
  return samples
}

/**
 * Does the same with one fleet of processes after the other, and pools what it answers: cells with
 * samples by name. A process now and then comes to stay slower than its twins, by what the compiler
 * made of it: no contender's figure hangs on one.
 */
export async function pooled(fleets, work) {
  const cells = await work(0)
  for (let fleet = 1; fleet < fleets; fleet += 1) {
    const more = await work(fleet)
    for (const [index, { samples }] of cells.entries()) {
      for (const name of Object.keys(samples)) samples[name].push(...more[index].samples[name])
    }
  }
  return cells
}

/** Samples by the name of their subject. */
export function byName(samples) {
  return Object.fromEntries([...samples].map(([{ name }, each]) => [name, each]))
}

/** The median, and the quartiles on either side: half of all samples lie between. */
export function summary(samples) {
  const sorted = samples.toSorted((one, other) => one - other)
  const at = (share) => {
    const place = share * (sorted.length - 1)
    const below = sorted[Math.floor(place)]
    return below + (sorted[Math.ceil(place)] - below) * (place % 1)
  }
  return { median: at(0.5), low: at(0.25), high: at(0.75) }
}

/** Of two subjects' samples, round by round: their ratio, or their difference. */
export function ratio(samples, others) {
  return summary(samples.map((sample, round) => sample / others[round]))
}

export function difference(samples, others) {
  return summary(samples.map((sample, round) => sample - others[round]))
}

/** As the report shows it: three digits, and the spread behind, if it was measured more than once. */
export function shown({ median, low, high }) {
  if (low === high) return digits(median)
  return `${digits(median)} <sub>${digits(low)}–${digits(high)}</sub>`
}

export function digits(value) {
  if (!Number.isFinite(value)) return '–'
  const size = Math.abs(value)
  if (size >= 100) return Math.round(value).toLocaleString('en-US')
  return value.toFixed(size >= 10 ? 1 : 2)
}

/** On a terminal the line is rewritten, in a log it stands once. */
export function progressOf(what) {
  return (done, of) => {
    if (process.stderr.isTTY)
      process.stderr.write(`\r\x1b[K${what}: ${done}/${of}${done === of ? '\n' : ''}`)
    else if (done === of) process.stderr.write(`${what}: ${of} rounds\n`)
  }
}
