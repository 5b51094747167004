import { check, optionError } from '../errors.ts'
import { mergeAttributes, type AttributeConfig, type CookieConfig } from './cookie-attributes.ts'
import type { CookieAttributes, CookieScope } from '../../types/session.ts'

/** The scopes of a registration's cookie: what tells it from others of its name. */
export interface ScopeConfig extends AttributeConfig {
  readonly formerCookies: readonly CookieScope[]
}

/** Checks the option `formerCookies`. @throws HOLDFAST_OPTION_INVALID */
export function checkFormerCookies(
  config: CookieConfig,
  attributes: CookieAttributes,
  scopes: unknown
): void {
  check(Array.isArray(scopes), 'formerCookies', 'a list of objects with domain, path, partitioned')
  for (const scope of scopes as unknown[]) {
    const isObject = typeof scope === 'object' && scope !== null
    const keys = isObject ? Object.keys(scope) : ['']
    check(
      keys.every((key) => key === 'domain' || key === 'path' || key === 'partitioned'),
      'formerCookies',
      'a list of objects with domain, path and partitioned alone'
    )
    try {
      // It may have been Secure, whatever the present one is.
      mergeAttributes(config, { ...withScope(attributes, {}), secure: true }, scope as CookieScope)
    } catch {
      throw optionError('formerCookies', 'a list of what cookie.domain and its like can be')
    }
  }
}

/**
 * Lists the attributes under which browsers may hold other cookies of the name: those of former
 * deployments, and what comes of leaving out `domain` or `partitioned`. A `path` must be listed:
 * at another, the name may be another application's.
 *
 * @param sent the attributes that the cookie has from now on
 * @param told those that the browser's may have
 */
export function otherCookies(
  { cookieAttributes, formerCookies }: ScopeConfig,
  [sent, ...told]: readonly [CookieAttributes, ...CookieAttributes[]]
): readonly CookieAttributes[] {
  const known = [sent, ...told, cookieAttributes]
  const scopes = known.flatMap(({ path }) =>
    [undefined, ...known.map(({ domain }) => domain)].flatMap((domain) =>
      [undefined, ...known.map(({ partitioned }) => partitioned)].map((partitioned) => ({
        path,
        domain,
        partitioned
      }))
    )
  )
  const others = new Map<string, CookieAttributes>()
  for (const scope of [...scopes, ...formerCookies]) {
    const attributes = withScope(sent, scope)
    others.set(keyOf(attributes), attributes)
  }
  others.delete(keyOf(sent))
  return [...others.values()]
}

function withScope(
  attributes: CookieAttributes,
  scope: { readonly [Key in keyof CookieScope]: CookieScope[Key] | undefined }
): CookieAttributes {
  const { domain, path = '/', partitioned = false } = scope
  const { domain: _, ...others } = attributes
  return { ...others, path, partitioned, ...(domain === undefined ? undefined : { domain }) }
}

function keyOf({ domain = '', path, partitioned = false }: CookieAttributes): string {
  return JSON.stringify([domain.toLowerCase().replace(/^\./, ''), path, partitioned])
}
