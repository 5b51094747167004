// What the contenders have in common.

export const cookieName = 'session_id'
export const secret = 'a secret of no less than thirty-two characters'
export const hour = 60 * 60

const texts = new Map()

/** Data of about so many bytes of JSON: what a cart looks like. */
export function dataOf(bytes) {
  if (!texts.has(bytes)) texts.set(bytes, textOf(bytes))
  return JSON.parse(texts.get(bytes))
}

function textOf(bytes) {
  const cart = []
  const data = { n: 0, user: 'ada', cart }
  let text = JSON.stringify(data)
  while (text.length < bytes) {
    cart.push({
      id: 1000 + cart.length,
      name: `Apple no. ${cart.length}`,
      price: 1.25,
      tags: ['fruit', 'fresh'],
      options: { gift: false }
    })
    text = JSON.stringify(data)
  }
  return text
}

/** The option of peers that names their store: none without a client, which is memory. */
export async function connectRedis(client) {
  if (client === undefined) return {}
  const { RedisStore } = await import('connect-redis')
  return { store: new RedisStore({ client }) }
}
