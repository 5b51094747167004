import { check } from './errors.ts'

/** What a route says of its session, in its `config`. */
type RouteSetting = false | { readonly touch: boolean } | undefined

/** Returns what a route says of its session. */
export function routeSetting(routeConfig: unknown, sessionName: string): RouteSetting {
  return (routeConfig as Record<string, RouteSetting> | undefined)?.[sessionName]
}

/** Checks what a route says of its session. @throws HOLDFAST_OPTION_INVALID */
export function checkRouteSetting(routeConfig: unknown, sessionName: string, url: string): void {
  const setting: unknown = routeSetting(routeConfig, sessionName)
  const isObject = typeof setting === 'object' && setting !== null
  check(
    setting === undefined ||
      setting === false ||
      (isObject &&
        Object.keys(setting).every((key) => key === 'touch') &&
        typeof (setting as { touch?: unknown }).touch === 'boolean'),
    `config.${sessionName} of the route ${url}`,
    'false for no session, or { touch: false } for requests that are no use of it'
  )
}
