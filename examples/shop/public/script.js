// Sends the forms of the basket and the note without leaving the page. Without this script they
// work all the same.

/** One after the other, so that the page never goes back to an older reply. */
let last = Promise.resolve()

addEventListener('submit', (event) => {
  const form = event.target
  if (!form.matches('[data-in-place]')) return
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

// What another tab has done meanwhile.
addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible')
    last = last
      .then(async () => {
        show(await load('/'))
      })
      .catch(() => {})
})

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
