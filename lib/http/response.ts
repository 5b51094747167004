import type { FastifyReply } from 'fastify'

import type { HttpConfig } from './config.ts'
import type { PresentedToken } from './request.ts'
import { attributesOf } from './cookie-attributes.ts'
import { otherCookies } from './cookie-scopes.ts'
import { sendsCookie, sendsHeader } from './transports.ts'
import type { Wording } from './wording.ts'
import { beforeHead, keepPrivate, setPrivate, vary, type HeaderFields } from './headers.ts'
import type { CommitResult } from '../session/client.ts'
import { secondsUntil } from '../session/lifetime.ts'

/** What a reply has to say in the end, whatever is done to it in the meantime. */
interface LastWord {
  /** The token in the header; undefined if it has none. */
  readonly header: string | undefined
  /** The lines of the cookie; undefined if it has none. */
  readonly cookie: readonly string[] | undefined
}

/** Puts the session's id, or its end, on one reply. */
export class SessionResponse {
  readonly #config: HttpConfig
  readonly #reply: FastifyReply
  readonly #presented: PresentedToken
  #lastWord: LastWord | undefined
  #isAnnounced = false
  #isDelivered = false

  constructor(config: HttpConfig, reply: FastifyReply, presented: PresentedToken) {
    this.#config = config
    this.#reply = reply
    this.#presented = presented
  }

  /** Whether save() has put a result on the reply. */
  get isAnnounced(): boolean {
    return this.#isAnnounced
  }

  /** Whether that was still on the reply when its head was written. */
  get isDelivered(): boolean {
    return this.#isDelivered
  }

  /** Puts a result on the reply before the commit, which has the last word. */
  announce(result: CommitResult, wording: Wording): void {
    this.write(result, wording)
    // The app may hand on what is there, as with hijack().
    if (this.#lastWord !== undefined && hasId(this.#lastWord)) keepPrivate(this.#reply)
    if (this.#isAnnounced) return
    this.#isAnnounced = true
    this.#whenSent(() => {
      this.#isDelivered = true
    })
  }

  /** Puts the result of a commit on the reply, in place of what was announced. */
  write(result: CommitResult, wording: Wording): void {
    const { isRead, clock, attributes, formerAttributes } = wording
    const { sessionHeader, cookie } = this.#config
    if (this.#isAnnounced) this.retract(this.#lastWord?.cookie ?? [])
    let header: string | undefined
    let lines: readonly string[] | undefined
    if (result.reply === 'id') {
      const inHeader = sessionHeader !== false && sendsHeader(this.#config, this.#presented)
      const inCookie =
        cookie !== undefined &&
        result.isConfirmed &&
        sendsCookie(this.#presented, wording.withheld, wording.isRegenerated)
      const token = inHeader || inCookie ? this.#tokenFor(result.id) : ''
      if (inHeader) {
        this.#reply.header(sessionHeader, token)
        header = token
      }
      if (inCookie) {
        const maxAge = secondsUntil(result.expiresAt, clock.now())
        lines = this.#setCookie(attributes, formerAttributes, token, maxAge)
      }
    } else if (result.reply === 'clear-cookie') {
      lines = this.#setCookie(formerAttributes, attributes, '', 0)
    } else if (result.reply === 'undeliverable') {
      cookie?.warnOfPath(this.#reply.log)
    }
    // Where there is a line of ours, no cache keeps the reply.
    if (lines !== undefined && this.#presented.former?.isOver === true) {
      this.#config.formerCookie?.clear(this.#reply)
    }
    if (header !== undefined || lines !== undefined || isRead) {
      this.#guard({ header, cookie: lines })
    }
  }

  /**
   * Takes off the reply what `write()` has put on it, but for what it says to caches.
   *
   * @param lines which of the cookie's; all of them by default, even if the app has set them
   */
  retract(lines?: readonly string[]): void {
    const { sessionHeader, cookie } = this.#config
    if (this.#lastWord !== undefined) this.#lastWord = { header: undefined, cookie: undefined }
    if (sessionHeader !== false) this.#reply.removeHeader(sessionHeader)
    cookie?.remove(this.#reply, lines)
  }

  /** Calls back when the head is written, if our header or our cookie is in it. */
  #whenSent(callback: () => void): void {
    const { headerKey, cookie } = this.#config
    beforeHead(this.#reply, (fields) => {
      const inHeader = headerKey !== undefined && fields.getHeader(headerKey) !== undefined
      if (inHeader || cookie?.isOn(fields) === true) callback()
    })
  }

  /** Says to caches that the reply depends on the session. */
  vary(): void {
    vary(this.#reply, this.#config.varyNames)
  }

  /**
   * Sets Cache-Control and Vary now, so that other hooks see them, and again when the head is
   * written, together with our header and cookie, and then removes what contradicts them.
   */
  #guard(lastWord: LastWord): void {
    if (hasId(lastWord)) setPrivate(this.#reply)
    this.vary()
    const isFirst = this.#lastWord === undefined
    this.#lastWord = lastWord
    if (isFirst) beforeHead(this.#reply, (fields) => this.#correct(fields))
  }

  /** Mends what hooks, or a web Response with fields of its own, have laid over ours. */
  #correct(fields: HeaderFields): void {
    const { header, cookie } = this.#lastWord as LastWord
    const { headerKey } = this.#config
    if (header !== undefined && headerKey !== undefined) {
      const present = fields.getHeader(headerKey)
      if (present !== undefined && present !== header) fields.header(headerKey, header)
    }
    if (cookie !== undefined) this.#config.cookie?.keepOnly(cookie, fields)
    if (hasId({ header, cookie })) keepPrivate(fields)
    vary(fields, this.#config.varyNames)
  }

  #tokenFor(id: string): string {
    const { signer } = this.#config
    if (signer === undefined) return id
    const { id: presentedId, token } = this.#presented
    return id === presentedId && token !== undefined ? token : signer.sign(id)
  }

  /**
   * Sets the cookie, and clears others of its name.
   *
   * @param own its own attributes
   * @param former others that the browser's may have
   */
  #setCookie(
    own: string,
    former: string,
    value: string,
    maxAge: number
  ): readonly string[] | undefined {
    const config = this.#config
    const attributes = attributesOf(config, own)
    const known = [former, ...this.#presented.ambiguous].map((text) => attributesOf(config, text))
    const isUsual = [attributes, ...known].every((one) => one === config.cookieAttributes)
    const others = isUsual ? config.otherCookies : otherCookies(config, [attributes, ...known])
    return config.cookie?.set(this.#reply, { value, maxAge, attributes, others })
  }
}

function hasId({ header, cookie }: LastWord): boolean {
  return header !== undefined || cookie !== undefined
}
