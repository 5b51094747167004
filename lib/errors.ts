/** The closed set of codes. */
export type SessionErrorCode =
  | 'HOLDFAST_OPTION_INVALID'
  | 'HOLDFAST_ALREADY_REGISTERED'
  | 'HOLDFAST_SESSION_UNAVAILABLE'
  | 'HOLDFAST_KEY_RESERVED'
  | 'HOLDFAST_VALUE_INVALID'
  | 'HOLDFAST_DATA_UNSERIALIZABLE'
  | 'HOLDFAST_DATA_UNDECODABLE'
  | 'HOLDFAST_DATA_TOO_LARGE'
  | 'HOLDFAST_UPDATE_ASYNC'
  | 'HOLDFAST_CALLBACK_UNSUPPORTED'
  | 'HOLDFAST_SESSION_READONLY'
  | 'HOLDFAST_ID_INVALID'
  | 'HOLDFAST_ID_TAKEN'
  | 'HOLDFAST_ID_UNDELIVERABLE'
  | 'HOLDFAST_SESSION_GONE'
  | 'HOLDFAST_STORE_FAILED'
  | 'HOLDFAST_STORE_TIMEOUT'
  | 'HOLDFAST_OUTCOME_UNKNOWN'

/**
 * The HTTP status of each code, and what it tells.
 * The message may reach a client: it names the cure, never an id, a key or a value.
 */
const errors: Readonly<Record<SessionErrorCode, readonly [statusCode: number, message: string]>> = {
  HOLDFAST_OPTION_INVALID: [500, 'A session option is wrong'],
  HOLDFAST_ALREADY_REGISTERED: [500, 'The session name is taken in this scope; give each registration its own sessionName'],
  HOLDFAST_SESSION_UNAVAILABLE: [500, 'There is no session here'],
  HOLDFAST_KEY_RESERVED: [500, 'A session key has the name of a session member; choose another name'],
  HOLDFAST_VALUE_INVALID: [500, 'A session member was given a value it cannot take; see its documentation'],
  HOLDFAST_DATA_UNSERIALIZABLE: [500, 'The session data cannot be serialised; keep plain data in it, or set the option serializer'],
  HOLDFAST_DATA_UNDECODABLE: [500, 'The stored session data is not what the serializer made'],
  HOLDFAST_DATA_TOO_LARGE: [500, 'The session data is larger than maxBytes; keep less in it, or raise the option'],
  HOLDFAST_UPDATE_ASYNC: [500, 'The function given to update() must be synchronous; await before calling update()'],
  HOLDFAST_CALLBACK_UNSUPPORTED: [500, 'save(), regenerate() and destroy() take no callback; await the promise that they return'],
  HOLDFAST_SESSION_READONLY: [500, 'The session of a request cannot be replaced; await its destroy() to end it, or regenerate() to begin anew'],
  HOLDFAST_ID_INVALID: [500, 'generateId failed, or made no 22 to 128 characters of A-Z, a-z, 0-9, - and _'],
  HOLDFAST_ID_TAKEN: [500, 'The new session id is taken; generateId must make unguessable, unique ids'],
  HOLDFAST_ID_UNDELIVERABLE: [500, 'A new session cannot begin here, for no reply will bring its id; begin it in a request that is answered normally'],
  HOLDFAST_SESSION_GONE: [409, 'The session ended while the request ran'],
  HOLDFAST_STORE_FAILED: [503, 'The session store failed; try again later'],
  HOLDFAST_STORE_TIMEOUT: [503, 'The session store did not answer in time; try again later'],
  HOLDFAST_OUTCOME_UNKNOWN: [503, 'The session store lost the answer to a write; it may have taken effect']
}

/** What this plugin throws and rejects with. `code` tells the cases apart; `cause` is the store's own error, for the log. */
export class SessionError extends Error {
  override readonly name = 'SessionError'
  readonly code: SessionErrorCode
  /** The status that Fastify replies with, where nothing else decides. */
  readonly statusCode: number

  constructor(code: SessionErrorCode, options?: { cause?: unknown, detail?: string }) {
    const [statusCode, message] = errors[code]
    super(options?.detail === undefined ? message : `${message}: ${options.detail}`, options?.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.statusCode = statusCode
  }
}

/** Thrown at registration: names the option and the cure. */
export function optionError(option: string, cure: string): SessionError {
  return new SessionError('HOLDFAST_OPTION_INVALID', { detail: `${option} must be ${cure}` })
}

/** Where there is nothing to work on: on a route that opted out, and in the error handler of a request whose session could not be read. */
export function unavailableError(reason = 'the route opted out, or the session could not be read from the store'): SessionError {
  return new SessionError('HOLDFAST_SESSION_UNAVAILABLE', { detail: reason })
}
