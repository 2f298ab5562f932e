/**
 * TLS options for addresses with a TLS scheme (https://, rediss://). Every connector with such addresses has these
 * keys.
 */
import { isIP } from "node:net";
import { checkServerIdentity, type ConnectionOptions, createSecureContext } from "node:tls";
import { codeOf, type TlsFailure } from "./failure.ts";
import { readCertificates, readPem, readPrivateKey } from "./pem.ts";

/** As configured; the first three are paths of PEM files. */
export interface TlsSettings {
  /** Authorities to trust instead of Node's own. */
  readonly ca: string | undefined;
  /** The client certificate, for a server that asks for one, and its private key. */
  readonly cert: string | undefined;
  readonly certKey: string | undefined;
  /** The name that the server's certificate must have, if it is not the host of the address. */
  readonly serverName: string | undefined;
}

export const NO_TLS_KEYS: TlsSettings = {
  ca: undefined,
  cert: undefined,
  certKey: undefined,
  serverName: undefined,
};

/** The keys, or the files that they name, can't be used. The message names the keys, never the contents. */
export class UnusableTls extends Error implements TlsFailure {
  readonly what: string;
  readonly fix: string;

  constructor(what: string, fix: string, cause?: unknown) {
    super(what, { cause });
    this.what = what;
    this.fix = fix;
  }
}

/** `encrypted`: whether the address asks for TLS. */
export function tlsOptions(settings: TlsSettings, encrypted: boolean): ConnectionOptions {
  if (!encrypted) return refuseKeys(settings);
  const { ca, cert, certKey, serverName } = settings;
  if ((cert === undefined) !== (certKey === undefined)) {
    const [named, other] = cert === undefined ? ["certKey", "cert"] : ["cert", "certKey"];
    throw new UnusableTls(
      `\`${named}\` is given without \`${other}\``,
      "Give both: `cert` and the private key that belongs to it, `certKey`; or neither.",
    );
  }
  const options: ConnectionOptions = {
    rejectUnauthorized: true,
    ...(ca === undefined ? {} : { ca: fileOf("ca", ca, readCertificates) }),
    ...(cert === undefined ? {} : { cert: fileOf("cert", cert, readCertificates) }),
    ...(certKey === undefined ? {} : { key: fileOf("certKey", certKey, readPrivateKey) }),
    ...(serverName === undefined ? {} : named(serverName)),
  };
  if (cert !== undefined) refuseStrangers(options);
  return options;
}

function named(serverName: string): ConnectionOptions {
  return {
    // The server name in the handshake must not be an address (RFC 6066).
    ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
    checkServerIdentity: (_host, certificate) => checkServerIdentity(serverName, certificate),
  };
}

/** Keys for TLS show that the user wants encryption, so an address without it is an error. */
function refuseKeys(settings: TlsSettings): ConnectionOptions {
  for (const key of ["ca", "cert", "certKey", "serverName"] as const) {
    if (settings[key] === undefined) continue;
    throw new UnusableTls(
      `\`${key}\` is given, but \`url\` does not ask for TLS`,
      `Use https:// or rediss:// in \`url\`, or take \`${key}\` out.`,
    );
  }
  return {};
}

function refuseStrangers(options: ConnectionOptions): void {
  try {
    createSecureContext(options);
  } catch (error) {
    throw new UnusableTls(
      "`cert` and `certKey` can't be used together",
      "Name the PEM files of one certificate and of its own private key.",
      withoutText(error),
    );
  }
}

function fileOf(key: string, path: string, read: (path: string) => string): string {
  return readPem(
    path,
    read,
    ({ what, fix }) => new UnusableTls(`the file that \`${key}\` names ${what}: ${path}`, fix),
  );
}

/** The reason with its code only. */
function withoutText(error: unknown): Error {
  return new Error(codeOf(error));
}
