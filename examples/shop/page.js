// The pages of the shop.

/** Prices are in cents. */
export const fruits = {
  apple: { name: 'Apple', about: 'Crisp, from the old tree', price: 60 },
  pear: { name: 'Pear', about: 'Ripe by the weekend', price: 75 },
  plum: { name: 'Plum', about: 'Dark, for the oven', price: 40 },
  lemon: { name: 'Lemon', about: 'Unwaxed, with its leaf', price: 55 },
  cherry: { name: 'Cherries', about: 'Always in pairs', price: 90 },
  fig: { name: 'Fig', about: 'Soft, handle with care', price: 110 }
}

class Markup extends String {}

/** Escapes what is put in, but for what is markup already. What is false or undefined is nothing. */
function html(strings, ...values) {
  return new Markup(
    String.raw({ raw: strings }, ...values.map((value) => [value].flat().map(markup).join('')))
  )
}

function markup(value) {
  return value instanceof Markup
    ? value
    : String(value === false ? '' : (value ?? '')).replace(
        /[&<>"']/g,
        (character) => `&#${character.codePointAt()};`
      )
}

/** @param problem what is to be said to the visitor, if anything */
export function page({ subject, cart = {}, note, isNew }, problem) {
  return layout(
    subject,
    html`<section class="shelf" aria-label="Fruit">${Object.entries(fruits).map(card)}</section>
      <aside>
        ${basket(cart)}
        <form class="note" method="post" action="/note" data-in-place>
          <label for="note">A note for us</label>
          <textarea
            id="note"
            name="note"
            rows="2"
            maxlength="200"
            placeholder="Please leave it by the gate"
          >
${note}</textarea>
          <button>Save the note</button>
        </form>
        <p class="session" id="session" data-live>
          ${isNew ? 'You have no session yet: it begins with the first thing you do.' : 'Your session is kept on the server. The browser holds nothing but its id, in a cookie that no script can read.'}
        </p>
      </aside>`,
    problem
  )
}

/**
 * Where a user is signed in, and the password.
 *
 * @param said.ask why the password is asked for before anything else is done, if it is
 * @param said.problem what is wrong with the change of the password
 * @param said.done what has been done
 */
export function devicesPage({ subject }, sessions, { ask, problem, done } = {}) {
  return layout(
    subject,
    html`<section class="devices" aria-label="Devices">
        <h2>Your devices</h2>
        <p>You are signed in here. Sign out what you do not know.</p>
        ${
          ask &&
          html`<form class="ask" method="post" action="/devices/confirm">
            <output role="alert">${ask}</output> ${secret('password', 'Your password')}
            <button class="primary">Go on</button>
          </form>`
        }
        <ul>
          ${sessions.toSorted((one, other) => other.isCurrent - one.isCurrent).map(device)}
        </ul>
        ${
          sessions.length > 1 &&
          html`<form method="post" action="/devices/end-others">
            <button>Sign out everywhere else</button>
          </form>`
        }
      </section>
      <aside>
        <form class="note" method="post" action="/password">
          <h2>Your password</h2>
          ${problem && html`<output role="alert">${problem}</output>`}
          ${done && html`<p role="status">${done}</p>`} ${secret('password', 'The one you have')}
          ${secret('next', 'A new one, 8 or more', 'new')}
          <button>Change it</button>
        </form>
        <p class="session">With a new password you are signed out everywhere else.</p>
      </aside>`
  )
}

function layout(subject, main, problem) {
  return html`<!doctype html>
    <html lang="en">
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <title>The Orchard</title>
      <link rel="stylesheet" href="/style.css" />
      <link rel="icon" href="/fruit.svg#apple" />
      <script src="/script.js" defer></script>

      <header>
        <h1><a href="/">${picture('apple')} The Orchard</a></h1>
        ${visitor(subject, problem)}
      </header>
      <main>${main}</main>
    </html> `.toString()
}

function picture(fruit) {
  return html`<svg aria-hidden="true"><use href="/fruit.svg#${fruit}" /></svg>`
}

function euros(cents) {
  return `€ ${(cents / 100).toFixed(2)}`
}

function visitor(user, problem) {
  return html`<div id="visitor">
    ${
      user === undefined
        ? html`<form method="post" action="/login">
            ${problem && html`<output role="alert">${problem}</output>`}
            <input
              name="user"
              placeholder="Name"
              aria-label="Name"
              required
              maxlength="40"
              autocomplete="username"
            />
            <input
              name="password"
              type="password"
              placeholder="Password: orchard"
              aria-label="Password"
              required
              autocomplete="current-password"
            />
            <button class="primary">Sign in</button>
          </form>`
        : html`<form method="post" action="/logout">
            <span>Signed in as <b>${user}</b></span> <a href="/devices">Your devices</a>
            <button>Sign out</button>
          </form>`
    }
  </div>`
}

function step(fruit, step, label, text) {
  return html`<form method="post" action="/cart/${fruit}/${step}" data-in-place>
    <button aria-label="${label}">${text}</button>
  </form>`
}

function card([fruit, { name, about, price }]) {
  return html` <article class="${fruit}">
    ${picture(fruit)}
    <h2>${name}</h2>
    <p>${about}</p>
    <div><b>${euros(price)}</b> ${step(fruit, 'add', `Add ${name}`, 'Add')}</div>
  </article>`
}

function basket(cart) {
  const lines = Object.entries(cart).map(([fruit, count]) => ({ ...fruits[fruit], fruit, count }))
  return html`<section class="basket" id="basket" data-live aria-live="polite">
    <h2>Your basket <span>${lines.reduce((sum, { count }) => sum + count, 0)}</span></h2>
    ${
      lines.length === 0
        ? html`<p>Nothing in it yet.</p>`
        : html`<ul>
              ${lines.map(
                ({ fruit, name, count, price }) =>
                  html` <li>
                    ${picture(fruit)}
                    <span>${name}</span> ${step(fruit, 'remove', `One ${name} less`, '−')}
                    <b id="count-${fruit}">${count}</b>
                    ${step(fruit, 'add', `One ${name} more`, '+')} <em>${euros(count * price)}</em>
                  </li>`
              )}
            </ul>
            <p class="total">
              <span>Total</span>
              <b>${euros(lines.reduce((sum, { count, price }) => sum + count * price, 0))}</b>
            </p>`
    }
  </section>`
}

function device({ publicId, isCurrent, info, createdAt, lastUsedAt }) {
  return html` <li>
    <b>${info?.device ?? 'A browser'}</b>
    <span>
      Signed in ${time(createdAt)}, ${isCurrent ? 'in use now' : html`used ${time(lastUsedAt)}`}
    </span>
    ${
      isCurrent
        ? html`<em>This device</em>`
        : html`<form method="post" action="/devices/end">
            <input type="hidden" name="publicId" value="${publicId}" />
            <button>Sign out</button>
          </form>`
    }
  </li>`
}

const format = new Intl.DateTimeFormat('en-GB', {
  dateStyle: 'medium',
  timeStyle: 'short',
  timeZone: 'UTC'
})

function time(at) {
  return html`<time datetime="${new Date(at).toISOString()}">${format.format(at)}</time>`
}

function secret(name, label, kind = 'current') {
  return html`<input
    name="${name}"
    type="password"
    placeholder="${label}"
    aria-label="${label}"
    required
    autocomplete="${kind}-password"
  />`
}

/** A short name for what sent a request, such as "Firefox on Windows". */
export function deviceOf(userAgent = '') {
  const browser = ['Edg', 'Firefox', 'Chrome', 'Safari'].find((name) => userAgent.includes(name))
  const system = ['Android', 'iPhone', 'iPad', 'Windows', 'Mac', 'Linux'].find((name) =>
    userAgent.includes(name)
  )
  return [browser === 'Edg' ? 'Edge' : (browser ?? 'A browser'), system]
    .filter(Boolean)
    .join(' on ')
}
