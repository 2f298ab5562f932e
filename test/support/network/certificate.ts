/** A certificate signed by its own key, for tests of TLS: made here, for not every machine has an openssl program. */
import { generateKeyPairSync, randomBytes, sign, type KeyObject } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { isIP } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Certificate extends AsyncDisposable {
  /** PEM; as its own authority it is also what a client trusts. */
  readonly certificate: string;
  readonly keyPath: string;
  readonly certificatePath: string;
  /** Its subject's common name. */
  readonly commonName: string;
}

const TAG = { integer: 2, bits: 3, octets: 4, oid: 6, utf8: 12, time: 24, sequence: 48, set: 49 } as const;
const ECDSA_WITH_SHA256 = der(TAG.sequence, oid([1, 2, 840, 10_045, 4, 3, 2]));
const DAY_MS = 86_400_000;

/** Valid for these host names and IPv4 addresses, from yesterday for thirty days, unless it is to have ended. */
export async function selfSigned(
  names: readonly string[] = ["localhost", "127.0.0.1"],
  endsMs: number = Date.now() + 30 * DAY_MS,
): Promise<Certificate> {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const commonName = `millrace test ${randomBytes(4).toString("hex")}`;
  const certificate = pem("CERTIFICATE", signed(privateKey, contents(publicKey, commonName, names, endsMs)));
  const folder = await mkdtemp(join(tmpdir(), "millrace-certificate-"));
  const keyPath = join(folder, "key.pem");
  const certificatePath = join(folder, "certificate.pem");
  await writeFile(keyPath, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  await writeFile(certificatePath, certificate);
  return {
    certificate,
    keyPath,
    certificatePath,
    commonName,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}

function signed(key: KeyObject, toBeSigned: Buffer): Buffer {
  const signature = sign("sha256", toBeSigned, { key, dsaEncoding: "der" });
  return der(TAG.sequence, toBeSigned, ECDSA_WITH_SHA256, bits(signature));
}

/** TBSCertificate of RFC 5280, section 4.1. */
function contents(publicKey: KeyObject, commonName: string, names: readonly string[], endsMs: number): Buffer {
  const name = der(TAG.sequence, der(TAG.set, der(TAG.sequence, oid([2, 5, 4, 3]), text(commonName))));
  const validity = der(TAG.sequence, time(Math.min(Date.now(), endsMs) - DAY_MS), time(endsMs));
  const authority = extension([2, 5, 29, 19], der(TAG.sequence, Buffer.from([1, 1, 0xff])));
  const alternatives = extension([2, 5, 29, 17], der(TAG.sequence, ...names.map(alternativeName)));
  return der(
    TAG.sequence,
    der(0xa0, der(TAG.integer, Buffer.from([2]))),
    der(TAG.integer, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    ECDSA_WITH_SHA256,
    name,
    validity,
    name,
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, der(TAG.sequence, authority, alternatives)),
  );
}

function alternativeName(name: string): Buffer {
  if (isIP(name) === 4) return der(0x87, Buffer.from(name.split(".").map(Number)));
  return der(0x82, Buffer.from(name, "latin1"));
}

function extension(id: readonly number[], value: Buffer): Buffer {
  return der(TAG.sequence, oid(id), der(TAG.octets, value));
}

function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag, ...length(body.length)]), body]);
}

function length(byteCount: number): number[] {
  if (byteCount < 0x80) return [byteCount];
  return byteCount < 0x100 ? [0x81, byteCount] : [0x82, byteCount >> 8, byteCount & 0xff];
}

function oid([first = 0, second = 0, ...others]: readonly number[]): Buffer {
  return der(TAG.oid, Buffer.from([first * 40 + second, ...others.flatMap(base128)]));
}

function base128(value: number): number[] {
  const digits = [value & 0x7f];
  for (let rest = value >> 7; rest > 0; rest >>= 7) digits.unshift((rest & 0x7f) | 0x80);
  return digits;
}

function bits(bytes: Buffer): Buffer {
  return der(TAG.bits, Buffer.from([0]), bytes);
}

function text(value: string): Buffer {
  return der(TAG.utf8, Buffer.from(value, "utf8"));
}

/** GeneralizedTime: `YYYYMMDDHHMMSSZ`. */
function time(atMs: number): Buffer {
  const digits = new Date(atMs).toISOString().replaceAll(/\D/g, "").slice(0, 14);
  return der(TAG.time, Buffer.from(`${digits}Z`, "latin1"));
}

function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString("base64").match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
