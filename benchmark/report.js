// Tables for the terminal, Markdown and a chart for the repository.
import { readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'

import { digits, shown } from './measure.js'

/** Whether a figure is where it is to be. */
function reached({ value, atMost = Infinity, atLeast = -Infinity }) {
  return value.median <= atMost && value.median >= atLeast
}

export function markdown(answers, { commit, seconds }) {
  const figures = answers.flatMap((answer) => answer.figures)
  return (
    [
      '# Benchmark',
      `What a session costs, measured beside the peers by \`npm run bench\`. Medians; the small figures are the quartiles: half of all samples lie between. ` +
        'All contenders are sampled in turn in one run, with several fleets of processes one after the other, and ratios and differences are taken round by round. Do measure on your own machine: the ratios travel better than the figures.',
      `Measured on ${measuredOn()}, in ${Math.round(seconds / 60)} minutes, on ${machine()}, Node.js ${process.versions.node}${commit && `, at commit ${commit}`}. ${versions()}.`,
      'The **floor** is Fastify with @fastify/cookie that parses one cookie and sets one on every reply: what no session can do without. ' +
        '**The least** is a server-side session of thirty lines that only finds its id in the cookie, hashes it, parses the data if asked and serialises it to see what changed: ' +
        'no expiry, no bound, no versions, no merge, no header. ' +
        'secure-session and iron-session keep the data in the cookie, encrypted; with them a logout cannot be enforced, and data is bound to some 4 KB. ' +
        'Where nobody looks at the session, iron-session does nothing, and renews nothing. "holdfast, secret" signs its ids.',
      '![Server CPU per request](benchmark.svg)',
      '## Goals',
      table(
        ['', 'measured', 'goal', 'reached'],
        figures.map((figure) => [
          figure.what + (figure.note === undefined ? '' : ` (${figure.note})`),
          `${shown(figure.value)} ${figure.unit}`,
          figure.atLeast === undefined
            ? `≤ ${digits(figure.atMost)}`
            : `≥ ${digits(figure.atLeast)}`,
          reached(figure) ? 'yes' : '**no**'
        ])
      ),
      '**Where a goal is missed.** The least session there can be promises nothing. Beyond it, holdfast pays for an expiry and an order in which sessions give way, versions and compare-and-set, ' +
        'one code for stores that answer at once and those that do not, and replies that no shared cache may keep (see *Where the time goes*). ' +
        'Data that comes from the store also loses its prototypes, object by object, and is looked at for what JSON would drop: of larger data, that is much of the difference. ' +
        'Ratios are higher where code that has not just run is slow to fetch, as on a small virtual machine. ' +
        'A ratio within the spread of its samples is no difference. A process that only spins has long steps as well, where the machine interrupts it.',
      ...answers.flatMap(({ title, about, tables }) => [
        `## ${title}`,
        about.join('\n'),
        ...tables.flatMap(({ caption, head, rows }) => [`**${caption}**`, table(head, rows)])
      ])
    ].join('\n\n') + '\n'
  )
}

/** What the README shows. */
export function quotation(answers) {
  const columns = {
    floor: 'floor',
    holdfast: 'holdfast',
    'holdfast, secret': 'holdfast, with a secret',
    '@fastify/session': '@fastify/session',
    '@fastify/secure-session': '@fastify/secure-session',
    'express-session': 'express-session'
  }
  const rows = answers
    .flatMap(({ quoted = [] }) => quoted)
    .map(({ what, cells }) => [what, ...Object.keys(columns).map((name) => cells[name] ?? '–')])
  return [
    `Measured on ${measuredOn()}, Node.js ${process.versions.node}, ${machine()}:`,
    table(['', ...Object.values(columns)], rows)
  ].join('\n\n')
}

const measuredOn = () => new Date().toISOString().slice(0, 10)

const machine = () =>
  `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GB, ${process.platform}`

export function plain({ title, about, tables, figures }) {
  const strip = (cell) => cell.replaceAll(/<\/?sub>|\*\*/g, '')
  const columns = (rows) => {
    const widths = rows[0].map((_, column) =>
      Math.max(...rows.map((row) => strip(row[column]).length))
    )
    return rows
      .map((row) =>
        row
          .map((cell, column) => strip(cell).padEnd(widths[column]))
          .join('  ')
          .trimEnd()
      )
      .join('\n')
  }
  return [
    `\n== ${title}`,
    ...(tables.length === 0 ? about : []),
    ...tables.map(({ caption, head, rows }) => `\n${caption}\n${columns([head, ...rows])}`),
    figures.length === 0
      ? ''
      : `\n${columns(figures.map((figure) => [reached(figure) ? 'reached' : 'NOT', figure.what, `${shown(figure.value)} ${figure.unit}`, figure.atLeast === undefined ? `at most ${digits(figure.atMost)}` : `at least ${digits(figure.atLeast)}`]))}`
  ].join('\n')
}

function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [
    line(head),
    line(head.map((_, column) => (column === 0 ? '---' : '--:'))),
    ...rows.map(line)
  ].join('\n')
}

function versions() {
  const of = [
    'fastify',
    '@fastify/cookie',
    '@fastify/session',
    '@fastify/secure-session',
    'iron-session',
    'express',
    'express-session',
    'connect-redis',
    'redis'
  ]
  return of
    .map(
      (name) =>
        `${name} ${JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), 'utf8')).version}`
    )
    .join(', ')
}

function colourOf(name) {
  if (name.startsWith('holdfast')) return '#2a7f62'
  return name === 'floor' ? '#b08900' : '#7a8899'
}

/** Bars in groups; the thin line is the spread. Readable on white and on black. */
export function chart({ title, groups }) {
  const left = 190
  const width = 760
  const bar = 15
  const longest = Math.max(...groups.flatMap(({ bars }) => bars.map(({ high }) => high)))
  const scale = (value) => (value / longest) * (width - left - 60)
  const parts = []
  let y = 40
  for (const { name: group, bars } of groups) {
    parts.push(`<text x="0" y="${y + 12}" font-weight="bold">${group}</text>`)
    y += 20
    for (const { name, median, low, high } of bars) {
      const x = (value) => (left + scale(value)).toFixed(1)
      parts.push(
        `<text x="${left - 8}" y="${y + 11}" text-anchor="end">${name}</text>`,
        `<rect x="${left}" y="${y}" width="${scale(median).toFixed(1)}" height="${bar - 3}" fill="${colourOf(name)}"/>`,
        `<path d="M${x(low)} ${y + 6}H${x(high)}" stroke="#c0392b"/>`,
        `<text x="${Number(x(high)) + 5}" y="${y + 11}">${digits(median)}</text>`
      )
      y += bar
    }
    y += 12
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y}" font-family="system-ui, sans-serif" font-size="12" fill="#333">`,
    `<rect width="${width}" height="${y}" fill="#fff"/>`,
    `<text x="0" y="18" font-size="15" font-weight="bold">${title}</text>`,
    ...parts,
    '</svg>',
    ''
  ].join('\n')
}
