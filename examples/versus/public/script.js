// Runs a race in both shops at once. Each step is a request of this browser, with its cookies; the
// next is sent when the one before has been answered, or waits at the slow database.

/** Each returns whether the shop held, and what came of it. */
const races = {
  async logout(shop) {
    await shop.send('Ada signs in.', 'login')
    const slow = await shop.sendSlowly('She adds a fig. The database is slow.', 'basket/fig')
    await shop.send('Meanwhile she signs out.', 'logout')
    await shop.finish('The slow request ends.', slow)
    const { user } = await shop.sendAgain('Her old cookie is sent once more.', slow)
    return user === undefined
      ? [true, 'The old cookie opens nothing.']
      : [false, `The old cookie still opens ${user}'s account.`]
  },

  async tabs(shop) {
    await shop.send('The basket holds an apple.', 'basket/apple')
    const slow = await shop.sendSlowly('One tab adds a pear. The database is slow.', 'basket/pear')
    await shop.send('Another tab adds a plum.', 'basket/plum')
    await shop.finish('The slow request ends.', slow)
    const { basket } = await shop.look('The basket is opened.')
    const lost = ['apple', 'pear', 'plum'].filter((fruit) => basket[fruit] !== 1)
    return lost.length === 0
      ? [true, 'All three fruits are in the basket.']
      : [false, `The ${lost.join(' and the ')} is lost.`]
  },

  async late(shop) {
    await shop.send('A visitor adds an apple.', 'basket/apple')
    const slow = await shop.sendSlowly('A page is requested. The database is slow.', '', 'GET')
    await shop.send('Meanwhile, in another tab, Ada signs in.', 'login')
    await shop.finish('The late page arrives.', slow)
    const { user } = await shop.look('Ada opens the next page.')
    return user === undefined
      ? [false, 'Ada is signed out by the late page.']
      : [true, `${user} is still signed in.`]
  }
}

/** One shop, and where its steps are written. */
class Shop {
  #name
  #steps
  #verdict
  /** Ends the requests that a race which fails leaves behind. */
  #left = new AbortController()

  constructor(pane) {
    this.#name = pane.dataset.pane
    this.#steps = pane.querySelector('ol')
    this.#verdict = pane.querySelector('[role=status]')
  }

  async run(race) {
    this.#steps.replaceChildren()
    this.#verdict.replaceChildren()
    this.#verdict.className = ''
    try {
      await this.#fetch('logout', { method: 'POST' }) // the visitor of the last race leaves
      await this.#open()
      const [isHeld, text] = await race(this)
      this.#judge(isHeld ? 'held' : 'broken', text)
    } catch (error) {
      this.#judge('failed', `The race could not be run to its end. ${error.message}`)
      this.#left.abort()
    }
    await this.#open()
  }

  async send(text, path) {
    this.#show(await (await this.#fetch(path, { method: 'POST' })).text())
    await this.#tell(text)
  }

  /** Sends a request, and returns when it waits at the database. */
  async sendSlowly(text, path, method = 'POST') {
    const id = [...crypto.getRandomValues(new Uint32Array(2))].join('-')
    const reply = this.#fetch(`${path}?slow=${id}`, { method })
    reply.catch(() => {}) // until finish() awaits it
    await Promise.race([this.#request(`/slow/${id}`), reply])
    await this.#tell(text, 'slow')
    return { id, reply }
  }

  /** Has the database answer. */
  async finish(text, { id, reply }) {
    await this.#request(`/slow/${id}`, { method: 'POST' })
    await reply
    await this.#tell(text, 'slow')
  }

  /** Has the server send the cookies of a request once more: a script cannot read them. */
  async sendAgain(text, { id }) {
    const state = await this.#json(`/again/${id}/${this.#name}`, { method: 'POST' })
    await this.#tell(text)
    return state
  }

  async look(text) {
    const state = await this.#json(`/${this.#name}/state`)
    await this.#tell(text)
    return state
  }

  get #window() {
    return document.getElementById(this.#name)
  }

  /** Opens the shop in its window, and returns when the page is there. */
  async #open() {
    const frame = this.#window
    await new Promise((resolve) => {
      frame.addEventListener('load', resolve, { once: true })
      frame.src = `/${this.#name}/`
    })
  }

  /** Has the window of the shop show a reply, which is its page. */
  #show(page) {
    const { body } = new DOMParser().parseFromString(page, 'text/html')
    this.#window.contentDocument.body.replaceWith(body)
  }

  #fetch(path, init) {
    return this.#request(`/${this.#name}/${path}`, init)
  }

  async #json(url, init) {
    return (await this.#request(url, init)).json()
  }

  async #request(url, init) {
    const reply = await fetch(url, { ...init, signal: this.#left.signal })
    if (!reply.ok) throw new Error(`${url} replied with ${reply.status}.`)
    return reply
  }

  async #tell(text, kind = '') {
    const step = document.createElement('li')
    step.textContent = text
    step.className = kind
    this.#steps.append(step)
    // For the eye alone: the order of the requests does not depend on it.
    if (!matchMedia('(prefers-reduced-motion: reduce)').matches)
      await new Promise((resolve) => setTimeout(resolve, 700))
  }

  #judge(kind, text) {
    const name = document.createElement('span')
    name.className = 'name'
    name.textContent = `${this.#window.title}: `
    this.#verdict.replaceChildren(name, text)
    this.#verdict.className = kind
  }
}

let isRunning = false

addEventListener('click', async ({ target }) => {
  const race = races[target.value]
  if (race === undefined || isRunning) return
  isRunning = true
  const pair = document.querySelector(`#${target.value} .pair`)
  pair.hidden = false
  // A button that is disabled would lose the focus.
  for (const button of document.querySelectorAll('.race > button')) button.ariaDisabled = 'true'
  await Promise.all([...pair.children].map((pane) => new Shop(pane).run(race)))
  for (const button of document.querySelectorAll('.race > button')) button.ariaDisabled = null
  isRunning = false
})
