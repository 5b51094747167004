// A small shop: sign in, a cart, sign out. `npm start` serves it on http://localhost:3000.
import Fastify from 'fastify'
import sessionPlugin from 'fastify-holdfast'

const app = Fastify()
await app.register(sessionPlugin)

app.get('/', async ({ session }) => ({ user: session.user ?? 'nobody', cart: session.cart ?? {} }))

app.post('/login/:user', async ({ params, session }) => {
  await session.regenerate(['cart']) // a new id, so that nobody who knew the old one is signed in too
  session.user = params.user
  return { user: session.user }
})

app.post('/cart/:item', async ({ params, session }) => {
  await session.update((draft) => {
    draft.cart ??= {}
    draft.cart[params.item] = (draft.cart[params.item] ?? 0) + 1
  })
  return { cart: session.cart }
})

app.post('/logout', async ({ session }) => {
  await session.destroy()
  return { goodbye: true }
})

const address = await app.listen({ port: Number(process.env.PORT ?? 3000) })
const local = address.replace(/127\.0\.0\.1|\[::1\]/, 'localhost')

console.log(`Listening on ${local}. In a second terminal, with the cookie as a browser does:

  curl -s -c cookies.txt -b cookies.txt -X POST ${local}/cart/apple
  curl -s -c cookies.txt -b cookies.txt -X POST ${local}/login/ada
  curl -s -c cookies.txt -b cookies.txt ${local}/
  curl -s -c cookies.txt -b cookies.txt -X POST ${local}/logout
  curl -s -c cookies.txt -b cookies.txt ${local}/

and with the header as an API client does:

  ID=$(curl -si -X POST ${local}/cart/pear | tr -d '\\r' | sed -n 's/^x-session-id: //p')
  curl -s -H "X-Session-ID: $ID" -X POST ${local}/cart/pear
  curl -s -H "X-Session-ID: $ID" ${local}/

The same races on @fastify/session and on this, in the browser: npm run demo`)
