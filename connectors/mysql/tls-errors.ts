/** Failures of TLS between Millrace and a server, and their fixes in terms of the URL. */
import { certificateFailures, isTlsCode, tlsCodeOf, type TlsFailure } from "../../src/tls/failure.ts";

const OWN_REFUSED: TlsFailure = {
  what: "the server does not accept the client's certificate",
  fix: "Set ssl-cert and ssl-key in the url to a certificate that is signed by an authority in the server's ssl_ca.",
};

const FAILURES: Readonly<Record<string, TlsFailure>> = {
  ...certificateFailures({
    untrusted:
      "Set ssl-ca in the url to the PEM file of the authority that signed it (a self-signed certificate is its own).",
    expired: "Renew the certificate on the server (ssl_cert), then ALTER INSTANCE RELOAD TLS (MariaDB: FLUSH SSL).",
    otherName:
      "Name the server in the url as its certificate does, or have one issued for this name; ssl-mode=VERIFY_CA checks the authority alone.",
  }),
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: OWN_REFUSED,
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: OWN_REFUSED,
};

export const INSECURE_REFUSED: TlsFailure = {
  what: "the server requires TLS (require_secure_transport)",
  fix: "Set ssl-mode=REQUIRED, or stronger, in the url.",
};

const NONE: TlsFailure = {
  what: "the server does not speak TLS",
  fix: "Give the server a certificate (ssl_cert, ssl_key); or, where the network is trusted, set ssl-mode=PREFERRED or ssl-mode=DISABLED in the url.",
};

/** Node's message for a connection that ended before TLS began: a server that goes down, or a proxy in between. */
const ENDED = /socket disconnected before secure TLS connection|\b(?:ECONNRESET|EPIPE|ETIMEDOUT)\b/;

/** The driver gives every failure of the handshake its own code, and keeps only the sentence of Node's error. */
export function handshakeFailure(code: string, text: string): TlsFailure | undefined {
  if (code === "HANDSHAKE_NO_SSL_SUPPORT") return NONE;
  const isHandshake = code === "HANDSHAKE_SSL_ERROR";
  if (isHandshake && ENDED.test(text)) return undefined;
  const own = isHandshake ? (tlsCodeOf(text) ?? code) : code;
  const known = FAILURES[own];
  if (known !== undefined) return known;
  if (own !== "HANDSHAKE_SSL_ERROR" && !isTlsCode(own)) return undefined;
  return { what: `TLS failed (${own})`, fix: "Check ssl-mode, ssl-ca, ssl-cert and ssl-key in the url." };
}
