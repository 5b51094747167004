import type { SessionErrorCode } from '../types/errors.ts'

/**
 * The HTTP status and the message of each code.
 * The message may reach a client: it names the cure, never an id, a key or a value.
 */
const errors: Readonly<Record<SessionErrorCode, readonly [statusCode: number, message: string]>> = {
  HOLDFAST_OPTION_INVALID: [500, 'A session option is wrong'],
  HOLDFAST_ALREADY_REGISTERED: [
    500,
    'The session name is taken in this scope; give each registration its own sessionName'
  ],
  HOLDFAST_SESSION_UNAVAILABLE: [500, 'There is no session here'],
  HOLDFAST_KEY_RESERVED: [
    500,
    'A reserved name was set, such as that of a session member; choose another name'
  ],
  HOLDFAST_VALUE_INVALID: [500, 'A session member was given a value it cannot take'],
  HOLDFAST_DATA_UNSERIALIZABLE: [
    500,
    'The session data has a value that the serializer does not keep, such as a Map, a function or ' +
      'NaN; keep what JSON has in it, or set the option serializer'
  ],
  HOLDFAST_DATA_UNDECODABLE: [
    503,
    'The stored session cannot be read here, as by another serializer; it can only be ended'
  ],
  HOLDFAST_DATA_TOO_LARGE: [
    500,
    'The session data is larger than maxBytes, or than maxMemory of the memory store; ' +
      'keep less in it, or raise the option'
  ],
  HOLDFAST_UPDATE_ASYNC: [
    500,
    'The function given to update() must be synchronous; await before calling update()'
  ],
  HOLDFAST_CALLBACK_UNSUPPORTED: [
    500,
    'save(), regenerate() and destroy() take no callback; await the promise that they return'
  ],
  HOLDFAST_SESSION_READONLY: [
    500,
    'The session of a request cannot be replaced; await its destroy() to end it, ' +
      'or regenerate() to begin anew'
  ],
  HOLDFAST_ID_INVALID: [
    500,
    'generateId failed, or made no 22 to 128 characters of A-Z, a-z, 0-9, - and _'
  ],
  HOLDFAST_ID_TAKEN: [
    500,
    'The new session id is taken; generateId must make unguessable, unique ids'
  ],
  HOLDFAST_ID_UNDELIVERABLE: [
    500,
    'A new session cannot begin here, for no reply will bring its id; ' +
      'begin it in a request with a normal reply, at a URL within cookie.path'
  ],
  HOLDFAST_SESSION_GONE: [409, 'The session ended while the request ran'],
  HOLDFAST_SESSION_DESTROYED: [409, 'The session was ended'],
  HOLDFAST_SESSIONS_DESTROYED: [409, 'All sessions of its user were ended'],
  HOLDFAST_SESSION_REPLACED: [409, 'The session gave way to another one of its user'],
  HOLDFAST_SESSION_EVICTED: [409, 'The session store had no room for the session'],
  HOLDFAST_SESSION_IDLE: [409, 'The session was not used for too long'],
  HOLDFAST_SESSION_EXPIRED: [409, 'The session has lived as long as a session may'],
  HOLDFAST_SIGN_IN_ENDED: [
    409,
    'All sessions were ended while this one was signed in; sign in again'
  ],
  HOLDFAST_SIGN_IN_REPEATED: [
    500,
    'signIn() was called twice in one request; sign in one subject, or save() in between'
  ],
  HOLDFAST_SUBJECT_CHANGED: [
    500,
    'update() cannot change whom the option subject reads from the data, for the session then has ' +
      'another id; set it on request.session'
  ],
  HOLDFAST_SUBJECT_MISMATCH: [
    500,
    'signIn() has signed in another subject than the option subject reads from the data; ' +
      'set that data too, or leave out one of both'
  ],
  HOLDFAST_SESSIONS_FULL: [
    409,
    'There are as many sessions as there may be; end another one first'
  ],
  HOLDFAST_SESSION_NOT_FRESH: [401, 'The session was not authenticated recently; sign in again'],
  HOLDFAST_SUBJECTS_UNSUPPORTED: [
    500,
    'The store cannot keep the sessions of a subject; use one that has `subjects`, such as ' +
      'MemoryStore, RedisStore or PostgresStore'
  ],
  HOLDFAST_SESSION_BUSY: [
    503,
    'Earlier writes to this session took too long; nothing was stored, try again later'
  ],
  HOLDFAST_STORE_FAILED: [503, 'The session store failed; try again later'],
  HOLDFAST_STORE_TIMEOUT: [503, 'The session store did not answer in time; try again later'],
  HOLDFAST_OUTCOME_UNKNOWN: [
    503,
    'The session store lost the answer to a write; it may have taken effect'
  ]
}

/**
 * What this plugin throws and rejects with. `code` tells the cases apart; `cause` is the store's
 * own error, for the log.
 */
export class SessionError extends Error {
  override readonly name = 'SessionError'
  readonly code: SessionErrorCode
  /** The status that Fastify replies with, where nothing else decides. */
  readonly statusCode: number

  constructor(code: SessionErrorCode, options?: { cause?: unknown; detail?: string }) {
    const [statusCode, message] = errors[code]
    super(
      options?.detail === undefined ? message : `${message}: ${options.detail}`,
      options?.cause === undefined ? undefined : { cause: options.cause }
    )
    this.code = code
    this.statusCode = statusCode
  }
}

/** Makes the error for a wrong option. @param expected completes "must be", and names the cure */
export function optionError(option: string, expected: string): SessionError {
  return new SessionError('HOLDFAST_OPTION_INVALID', { detail: `${option} must be ${expected}` })
}

/** Throws the error for a wrong option unless it holds. */
export function check(holds: boolean, option: string, expected: string): void {
  if (!holds) throw optionError(option, expected)
}

/**
 * Where there is nothing to work on: on a route that opted out, and in the error handler of a
 * request whose session could not be read.
 */
export function unavailableError(
  reason = 'the route opted out, or the session could not be read from the store'
): SessionError {
  return new SessionError('HOLDFAST_SESSION_UNAVAILABLE', { detail: reason })
}

/** Whether an operation ran out of time: there is none left to try again. */
export function isTimeout(error: unknown): boolean {
  return error instanceof SessionError && error.code === 'HOLDFAST_STORE_TIMEOUT'
}
