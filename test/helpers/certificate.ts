import { generateKeyPairSync, sign } from 'node:crypto'

export interface Certificate {
  readonly key: string
  readonly cert: string
}

/** A certificate of its own making for localhost, good for a day (RFC 5280, 4.1). */
export function certificate(now = Date.now()): Certificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ecdsaWithSha256 = sequence(tlv(0x06, Buffer.from('2a8648ce3d040302', 'hex')))
  const localhost = Buffer.from('localhost')
  const name = sequence(
    tlv(0x31, sequence(tlv(0x06, Buffer.from('550403', 'hex')), tlv(0x0c, localhost)))
  )
  const altName = sequence(
    tlv(0x06, Buffer.from('551d11', 'hex')),
    tlv(0x04, sequence(tlv(0x82, localhost)))
  )
  const toBeSigned = sequence(
    tlv(0xa0, integer(2)),
    integer(1),
    ecdsaWithSha256,
    name,
    sequence(time(now - 86_400_000), time(now + 86_400_000)),
    name,
    publicKey.export({ format: 'der', type: 'spki' }),
    tlv(0xa3, sequence(altName))
  )
  const der = sequence(
    toBeSigned,
    ecdsaWithSha256,
    tlv(0x03, Buffer.from([0]), sign('sha256', toBeSigned, privateKey))
  )
  return {
    key: privateKey.export({ format: 'pem', type: 'pkcs8' }) as string,
    cert: `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replaceAll(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`
  }
}

// DER (X.690).

function tlv(tag: number, ...contents: readonly Buffer[]): Buffer {
  const content = Buffer.concat(contents)
  return Buffer.concat([Buffer.from([tag, ...lengthBytes(content.length)]), content])
}

function lengthBytes(length: number): number[] {
  if (length < 128) return [length]
  return length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
}

function sequence(...contents: readonly Buffer[]): Buffer {
  return tlv(0x30, ...contents)
}

function integer(value: number): Buffer {
  return tlv(0x02, Buffer.from([value]))
}

function time(instant: number): Buffer {
  return tlv(0x18, Buffer.from(new Date(instant).toISOString().replaceAll(/[-:T]|\.\d+/g, '')))
}
