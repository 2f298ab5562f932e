/** Explains TLS failures and their fixes by the code of Node or OpenSSL. The fixes name the keys of options.ts. */
import { isIP } from "node:net";
import { connect, type ConnectionOptions } from "node:tls";

export interface TlsFailure {
  readonly what: string;
  readonly fix: string;
}

const HANDSHAKE_TIMEOUT_MS = 3_000;
/** After the handshake a refusal arrives one network delay later. */
const REFUSAL_MS = 500;

export const NO_TLS: TlsFailure = {
  what: "the server does not speak TLS on this port",
  fix: "Correct the port in `url`; or, where the network is trusted, use the scheme without the s.",
};
const OWN_WANTED: TlsFailure = {
  what: "the server wants a client certificate",
  fix: "Name a certificate that the server's authority has signed, and its private key, in `cert` and `certKey`.",
};
const OWN_REFUSED: TlsFailure = {
  what: "the server does not accept the client's certificate",
  fix: "Name a valid certificate that the server's authority has signed, and its private key, in `cert` and `certKey`.",
};
export const TLS_ALONE: TlsFailure = {
  what: "the server speaks TLS alone on this port",
  fix: "Use https:// or rediss:// in `url`; with an authority of your own name its PEM file in `ca`.",
};

/** Why a server's certificate is refused, by code; the connector provides the fixes. */
export function certificateFailures(fixes: {
  readonly untrusted: string;
  readonly expired: string;
  readonly otherName: string;
}): Readonly<Record<string, TlsFailure>> {
  const untrusted = {
    what: "the server's certificate is not signed by an authority that is trusted",
    fix: fixes.untrusted,
  };
  return {
    DEPTH_ZERO_SELF_SIGNED_CERT: untrusted,
    SELF_SIGNED_CERT_IN_CHAIN: untrusted,
    UNABLE_TO_GET_ISSUER_CERT: untrusted,
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
    CERT_SIGNATURE_FAILURE: untrusted,
    CERT_HAS_EXPIRED: { what: "the server's certificate has expired", fix: fixes.expired },
    CERT_NOT_YET_VALID: {
      what: "the server's certificate is not valid yet",
      fix: "Compare the clocks of this machine and of the server with the certificate's dates.",
    },
    ERR_TLS_CERT_ALTNAME_INVALID: {
      what: "the server's certificate is for another name than the url's host",
      fix: fixes.otherName,
    },
  };
}

const FAILURES: Readonly<Record<string, TlsFailure>> = {
  ...certificateFailures({
    untrusted: "Name the PEM file of the authority that signed it in `ca` (a self-signed certificate is its own).",
    expired: "Renew the certificate on the server.",
    otherName: "Name the server in `url` as its certificate does, or give the certificate's name in `serverName`.",
  }),
  ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: NO_TLS,
  ERR_SSL_HTTP_REQUEST: NO_TLS,
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: OWN_WANTED,
  ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE: {
    what: "the server and this machine can't agree on TLS, or it wants a client certificate",
    fix: "Name a certificate that the server's authority has signed in `cert` and `certKey`; look at the protocols and ciphers that the server allows.",
  },
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: OWN_REFUSED,
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: OWN_REFUSED,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: OWN_REFUSED,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: OWN_REFUSED,
  "ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE": OWN_REFUSED,
  "ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED": OWN_REFUSED,
  "ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_UNKNOWN": OWN_REFUSED,
};
/** The connection ended in the middle of TLS. That is temporary and says nothing about certificates or protocols. */
const ENDED = "ERR_SSL_UNEXPECTED_EOF_WHILE_READING";
const OTHER = /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|HOSTNAME_MISMATCH)/;

/** Whether a code of Node or OpenSSL is about TLS. */
export function isTlsCode(code: string): boolean {
  return code !== ENDED && OTHER.test(code);
}

/** The meaning of a code of Node or OpenSSL; undefined if it is not about TLS. */
export function tlsFailure(code: string): TlsFailure | undefined {
  const known = FAILURES[code];
  if (known !== undefined || !isTlsCode(code)) return known;
  return { what: code, fix: "Check `ca`, `cert`, `certKey` and `serverName`, and the server's TLS settings." };
}

/** Sentences for Node's codes, for drivers that keep only the sentence: OpenSSL's x509_txt.c, Node's tls.js. */
const SENTENCES: readonly (readonly [RegExp, string])[] = [
  [/altnames/, "ERR_TLS_CERT_ALTNAME_INVALID"],
  [/certificate has expired/, "CERT_HAS_EXPIRED"],
  [/certificate is not yet valid/, "CERT_NOT_YET_VALID"],
  [/self.signed certificate in certificate chain/, "SELF_SIGNED_CERT_IN_CHAIN"],
  [/self.signed certificate/, "DEPTH_ZERO_SELF_SIGNED_CERT"],
  [/unable to verify the first certificate/, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
  [/unable to get (local )?issuer certificate/, "UNABLE_TO_GET_ISSUER_CERT"],
  [/certificate signature failure/, "CERT_SIGNATURE_FAILURE"],
];

/** The code that Node gave the error with this message; undefined if it is not about TLS. */
export function tlsCodeOf(message: string): string | undefined {
  // `…:error:0A00010B:SSL routines:tls_validate_record_header:wrong version number:…`
  const reason = /:SSL routines:[^:]*:([^:]+)/.exec(message)?.[1];
  if (reason !== undefined) return `ERR_SSL_${reason.trim().toUpperCase().replaceAll(" ", "_")}`;
  return SENTENCES.find(([pattern]) => pattern.test(message))?.[1];
}

interface Handshake {
  /** Whether the server spoke TLS, even if it only refused. */
  readonly spoke: boolean;
  /** The code of the failure, or of the refusal after the handshake (TLS 1.3 checks client certificates then). */
  readonly code: string | undefined;
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Where the server of an http:// or https:// URL listens. */
export function addressOf({ protocol, hostname, port }: URL): Address {
  const usual = protocol === "https:" ? 443 : 80;
  return { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || usual) };
}

/** Makes a separate connection and sends nothing. Used after a connection that ended without a reason. */
export async function tryHandshake(
  address: Address,
  options: ConnectionOptions,
  signal: AbortSignal,
): Promise<Handshake> {
  // An abort that was before tells no listener.
  if (signal.aborted) return { spoke: false, code: undefined };
  const either = AbortSignal.any([signal, AbortSignal.timeout(HANDSHAKE_TIMEOUT_MS)]);
  const name = isIP(address.host) === 0 ? { servername: address.host } : {};
  const socket = connect({ ...address, ...name, ...options });
  let spoke = false;
  let refusal: NodeJS.Timeout | undefined;
  try {
    return await new Promise<Handshake>((resolve) => {
      const end = (code?: string): void => resolve({ spoke, code });
      either.addEventListener("abort", () => end(), { once: true });
      socket.once("secureConnect", () => {
        spoke = true;
        refusal = setTimeout(end, REFUSAL_MS);
      });
      socket.once("error", (error) => {
        const code = codeOf(error);
        // An alert is an answer in TLS; a plain server's answer is not.
        spoke ||= code.includes("_ALERT_");
        end(code);
      });
      socket.once("close", () => end());
    });
  } finally {
    clearTimeout(refusal);
    socket.destroy();
  }
}

export function codeOf(error: unknown): string {
  if (!(error instanceof Error && "code" in error)) return "unknown";
  const code = String(error.code);
  // A server that does not speak TLS: only the sentence says so.
  return code === "EPROTO" ? (tlsCodeOf(error.message) ?? code) : code;
}
