import type { HeaderFields } from './headers.ts'

/** A value without the quotes that it may stand in (RFC 6265bis, 4.1.1). */
export function unquoted(value = ''): string {
  return /^".*"$/.test(value) ? value.slice(1, -1) : value
}

/** Whether a line clears its cookie, as browsers are told to (RFC 6265bis, 3.1). */
export function isClearing(line: string): boolean {
  return /^[^=]*=(?:"")?;.*;? *(?:max-age=(?:0|-\d+)|expires=[^;]*\b1970\b)/i.test(line)
}

/** Returns the Set-Cookie lines of a reply. */
export function cookiesOf(fields: HeaderFields): string[] {
  const cookies = fields.getHeader('set-cookie') as string | string[] | undefined
  if (cookies === undefined) return []
  return Array.isArray(cookies) ? cookies : [cookies]
}
