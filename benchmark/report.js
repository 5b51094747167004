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
      'To run it: `npm ci && npm run bench` in a clone, on a machine that does nothing else; `npm run bench -- --quick` shows in a minute that it works, and `--only sockets,redis` asks some of the questions. It needs the registry, for the peers and for Node.js, and a `redis-server` for what is on Redis.',
      'The **floor** is Fastify with @fastify/cookie that parses one cookie and sets one on every reply. ' +
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
      '**Where a goal is missed.** A ratio within the spread of its samples is no difference.',
      misses.map(([what, why]) => `- **${what}.** ${why}`).join('\n'),
      ...answers.flatMap(({ title, about, tables }) => [
        `## ${title}`,
        about.join('\n'),
        ...tables.flatMap(({ caption, head, rows }) => [`**${caption}**`, table(head, rows)])
      ])
    ].join('\n\n') + '\n'
  )
}

/** What the goals that are missed come from. */
const misses = [
  [
    'CPU, by the least',
    'It promises nothing. Beyond it, holdfast pays for an expiry and an order in which sessions give way, versions and compare-and-set, one code for stores that answer at once and those that do not, and replies that no shared cache may keep (see *Where the time goes*). A login mints and hashes another id, writes the new session, and leaves a trace under the former id, so that who comes late with that is led on or logged out. Requests of a kind that is rare in an app find its code cold, and cost twice as much or more: that is not in these tables.'
  ],
  [
    'CPU, by the cheapest peer',
    '@fastify/secure-session and iron-session have no store: the data is in the cookie, a login is another cookie, and no logout ends what somebody has copied. Where nobody looks at the session, iron-session does nothing, and renews nothing. With a secret, each new id takes an HMAC more.'
  ],
  [
    '11 and 60 KB',
    'Data that comes from the store loses its prototypes, object by object, and is looked at for what JSON would drop.'
  ],
  [
    'CPU on Redis',
    'The client of Redis alone costs more than the goal: the notes have what the floor costs with as many bare calls.'
  ],
  [
    'Memory of a session that is signed in',
    'See *Memory*: the text of who it is takes most of what the goal has.'
  ],
  ['Import and package', 'See *To install and to start* for what each part is.'],
  [
    'Stalls and steps',
    'A process that only spins has long steps as well, where the machine interrupts it. Ten thousand signals of one user are gone through at once as the end is called, and told in turns.'
  ]
]

/** What the README shows. */
export function quotation(answers) {
  const columns = {
    floor: 'floor',
    holdfast: 'holdfast',
    'holdfast, secret': 'holdfast, with a secret',
    '@fastify/session': '@fastify/session',
    '@fastify/secure-session': '@fastify/secure-session',
    'express-session': 'express-session, on Express'
  }
  const rows = answers
    .flatMap(({ quoted = [] }) => quoted)
    .map(({ what, cells }) => [what, ...Object.keys(columns).map((name) => cells[name] ?? '–')])
  return [
    `Measured on ${measuredOn()}, Node.js ${process.versions.node}, ${machine()}.\nMicroseconds of the server's CPU for a request, with 0.1 KB of data:`,
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
