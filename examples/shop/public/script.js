// Sends the forms of the basket and the note without leaving the page. Without this script they
// work all the same.

/** One after the other, so that the page never goes back to an older reply. */
let last = Promise.resolve()

addEventListener('submit', (event) => {
  const form = event.target
  // What leaves the page may sign out: that is no news to who did it.
  if (!form.matches('[data-in-place]')) return events?.close()
  event.preventDefault()
  const pressed = event.submitter?.ariaLabel
  last = last
    .then(async () => {
      show(
        await load(form.action, { method: 'POST', body: new URLSearchParams(new FormData(form)) })
      )
      // The button that was pressed may be a new one now.
      if (pressed) document.querySelector(`button[aria-label="${pressed}"]`)?.focus()
    })
    .catch(() => {
      location.reload()
    })
})

/** Tells when the session ends: in another window, on another device, or by itself. */
let events

listen()
addEventListener('visibilitychange', () => {
  listen()
  if (!document.hidden) refresh()
})

function listen() {
  events?.close()
  // A browser has few connections to a server: only a page that is seen keeps one.
  if (document.hidden || !document.querySelector('[action="/logout"]')) return
  events = new EventSource('/events')
  events.addEventListener('end', async () => {
    events.close()
    // Without the cookie, which may be that of the next who signs in.
    document.body.replaceWith((await load('/?ended', { credentials: 'omit' })).body)
  })
  // It had ended before the page could listen.
  events.addEventListener('error', () => {
    if (events.readyState === EventSource.CLOSED) refresh()
  })
}

/** Shows what another tab has done meanwhile. */
function refresh() {
  last = last
    .then(async () => {
      show(await load('/'))
    })
    .catch(() => {})
}

async function load(url, init) {
  return new DOMParser().parseFromString(await (await fetch(url, init)).text(), 'text/html')
}

function show(page) {
  // Signed in or out by another tab: nothing of this page holds any more.
  if (page.getElementById('visitor').textContent !== document.getElementById('visitor').textContent)
    return location.reload()
  for (const part of document.querySelectorAll('[data-live]'))
    part.replaceWith(page.getElementById(part.id))
}
