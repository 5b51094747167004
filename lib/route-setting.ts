import { check } from './errors.ts'

/** What a route says of its session, in its `config`. */
type RouteSetting = false | { readonly touch?: boolean; readonly fresh?: number } | undefined

/** Returns what a route says of its session. */
export function routeSetting(routeConfig: unknown, sessionName: string): RouteSetting {
  return (routeConfig as Record<string, RouteSetting> | undefined)?.[sessionName]
}

/** Checks what a route says of its session. @throws HOLDFAST_OPTION_INVALID */
export function checkRouteSetting(routeConfig: unknown, sessionName: string, url: string): void {
  const setting: unknown = routeSetting(routeConfig, sessionName)
  const isObject = typeof setting === 'object' && setting !== null
  const { touch, fresh, ...rest } = (isObject ? setting : {}) as Record<string, unknown>
  check(
    setting === undefined ||
      setting === false ||
      (isObject &&
        Object.keys(rest).length === 0 &&
        (touch === undefined || typeof touch === 'boolean') &&
        (fresh === undefined || (Number.isFinite(fresh) && (fresh as number) > 0)) &&
        (touch ?? fresh) !== undefined),
    `config.${sessionName} of the route ${url}`,
    'false for no session, { touch: false } for requests that are no use of it, ' +
      'or { fresh } with the seconds since somebody was authenticated'
  )
}
