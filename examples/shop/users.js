// Stands for your table of users.
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'

const hash = promisify(scrypt)

/** Everybody is welcome with the password of the shop, until they choose one of their own. */
export function openUsers(password = 'orchard') {
  const common = hashed(password)
  const own = new Map()

  return {
    async isRightPassword(user, password) {
      const { salt, key } = await (own.get(user) ?? common)
      return timingSafeEqual(await hash(password, salt, 32), key)
    },

    async setPassword(user, password) {
      own.set(user, await hashed(password))
    }
  }
}

async function hashed(password) {
  const salt = randomBytes(16)
  return { salt, key: await hash(password, salt, 32) }
}
