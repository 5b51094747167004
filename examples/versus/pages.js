// The page of the demonstration, and the page of a shop.

export const fruits = { apple: 'Apple', pear: 'Pear', plum: 'Plum', fig: 'Fig' }

const races = {
  logout: {
    title: 'Logout under a slow request',
    about: 'Ada signs out while another of her requests still waits for the database.',
    button: 'Sign out meanwhile'
  },
  tabs: {
    title: 'Two tabs fill one basket',
    about: 'A fruit is added in one tab while another tab is still adding a different one.',
    button: 'Add from two tabs'
  },
  late: {
    title: 'A late page after the login',
    about: 'A page that was requested before the login arrives after it.',
    button: 'Sign in meanwhile'
  }
}

/** @param names what to call each shop, by its name */
export function demoPage(names) {
  return document(
    'Two shops, three races',
    `<header>
      <h1>Two shops, three races</h1>
      <p>
        The same shop twice; only the session plugin differs. Each button sends the same requests
        from your browser to both. One of them waits for a slow database until the others are done.
      </p>
    </header>
    <main>
      <div class="pair">${Object.entries(names).map(shop).join('')}</div>
      ${Object.entries(races)
        .map((race) => raceSection(race, names))
        .join('')}
    </main>
    <footer>
      <p>
        Both plugins run with their defaults, and keep their sessions in memory. With
        <code>rolling: false</code>, @fastify/session survives the late page, unless that page
        changes the session.
      </p>
    </footer>
    <noscript>The races are run by a script of this page.</noscript>
    <script type="module" src="/script.js"></script>`
  )
}

function shop([name, title]) {
  return `<section>
    <h2>${title}</h2>
    <iframe id="${name}" src="/${name}/" title="${title}"></iframe>
  </section>`
}

function raceSection([race, { title, about, button }], names) {
  return `<section class="race" id="${race}">
    <h2>${title}</h2>
    <p>${about}</p>
    <button value="${race}">${button}</button>
    <div class="pair" hidden>${Object.entries(names)
      .map(
        ([name, title]) => `<section data-pane="${name}">
          <h3>${title}</h3>
          <ol></ol>
          <p role="status"></p>
        </section>`
      )
      .join('')}</div>
  </section>`
}

export function shopPage(name, { user, basket }) {
  return document(
    'The Orchard',
    `<main class="shop">
      <form method="post" action="/${name}/${user ? 'logout' : 'login'}">
        <span id="visitor">${user ? `Signed in as <b>${user}</b>` : 'Nobody is signed in'}</span>
        <button>${user ? 'Sign out' : 'Sign in as Ada'}</button>
      </form>
      <ul aria-label="Your basket">
        ${Object.entries(fruits)
          .map(
            ([fruit, title]) => `<li class="${basket[fruit] > 0 ? 'some' : 'none'}">
              <svg aria-hidden="true"><use href="/fruit.svg#${fruit}" /></svg>
              <span>${title} <b id="${fruit}">${basket[fruit]}</b></span>
              <form method="post" action="/${name}/basket/${fruit}">
                <button aria-label="Add ${title}">Add</button>
              </form>
            </li>`
          )
          .join('')}
      </ul>
    </main>`
  )
}

function document(title, body) {
  return `<!doctype html>
    <html lang="en">
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <title>${title}</title>
      <link rel="stylesheet" href="/style.css" />
      <link rel="icon" href="/fruit.svg#apple" />
      ${body}
    </html>`
}
