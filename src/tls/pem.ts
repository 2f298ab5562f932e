/** Checks PEM files of a configuration before a handshake: OpenSSL silently skips what it can't read. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { readSmallFile } from "../core/files.ts";
import type { TlsFailure } from "./failure.ts";

const PEM_BYTES_MAX = 1024 * 1024;

/**
 * `what` ends a sentence that begins with the key or parameter that names the file. It never holds the file's contents.
 */
class UnusablePem extends Error implements TlsFailure {
  readonly what: string;
  readonly fix: string;

  constructor(what: string, fix: string) {
    super(what);
    this.what = what;
    this.fix = fix;
  }
}

/** The file's text, or the error that `refuse` makes of what is wrong with it. */
export function readPem(path: string, read: (path: string) => string, refuse: (why: UnusablePem) => Error): string {
  try {
    return read(path);
  } catch (error) {
    if (!(error instanceof UnusablePem)) throw error;
    throw refuse(error);
  }
}

/** One certificate or several. */
export function readCertificates(path: string): string {
  const pem = read(path);
  if (!isUsable(() => new X509Certificate(pem)))
    throw new UnusablePem("holds no certificate", "Name a PEM file (it begins with -----BEGIN CERTIFICATE-----).");
  return pem;
}

export function readPrivateKey(path: string): string {
  const pem = read(path);
  if (/ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(pem)) {
    throw new UnusablePem(
      "is a private key with a passphrase",
      "Name a copy without one (openssl pkey -in FILE -out COPY) that only the user of Millrace may read.",
    );
  }
  if (!isUsable(() => createPrivateKey(pem)))
    throw new UnusablePem("holds no private key", "Name a PEM file (it begins with -----BEGIN PRIVATE KEY-----).");
  return pem;
}

function read(path: string): string {
  try {
    return readSmallFile(path, PEM_BYTES_MAX);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    throw new UnusablePem(
      `can't be read (${code})`,
      "Correct the path, which is relative to the configuration file, or the file's permissions.",
    );
  }
}

function isUsable(parse: () => unknown): boolean {
  try {
    parse();
    return true;
  } catch {
    return false;
  }
}
