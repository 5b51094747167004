// The one page of the shop.

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

/** Escapes what is put in, but for what is markup already. */
function html(strings, ...values) {
  return new Markup(
    String.raw({ raw: strings }, ...values.map((value) => [value].flat().map(markup).join('')))
  )
}

function markup(value) {
  return value instanceof Markup
    ? value
    : String(value ?? '').replace(/[&<>"']/g, (character) => `&#${character.codePointAt()};`)
}

/** @param problem what is to be said to the visitor, if anything */
export function page({ user, cart = {}, note, isNew }, problem) {
  return html`<!doctype html>
    <html lang="en">
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <title>The Orchard</title>
      <link rel="stylesheet" href="/style.css" />
      <link rel="icon" href="/fruit.svg#apple" />
      <script src="/script.js" defer></script>

      <header>
        <h1>${picture('apple')} The Orchard</h1>
        ${visitor(user, problem)}
      </header>
      <main>
        <section class="shelf" aria-label="Fruit">${Object.entries(fruits).map(card)}</section>
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
        </aside>
      </main>
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
            <span>Signed in as <b>${user}</b></span> <button>Sign out</button>
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
