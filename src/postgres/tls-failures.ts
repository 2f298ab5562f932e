/** Explains TLS failures and their fixes by the code of Node or OpenSSL. The fixes name libpq's parameters. */
import { certificateFailures, isTlsCode, type TlsFailure } from "../tls/failure.ts";

const OWN_PAIR: TlsFailure = {
  what: "the client's certificate and key can't be used",
  fix: "Set sslcert and sslkey in the url to the PEM files of one certificate and its own private key.",
};
const OWN_REFUSED: TlsFailure = {
  what: "the server does not accept the client's certificate",
  fix: "Set sslcert and sslkey in the url to a certificate that is signed by an authority in the server's ssl_ca_file.",
};

const FAILURES: Readonly<Record<string, TlsFailure>> = {
  ...certificateFailures({
    untrusted:
      "Set sslrootcert in the url to the PEM file of the authority that signed it (a self-signed certificate is its own).",
    expired: "Renew the certificate on the server (ssl_cert_file), then SELECT pg_reload_conf().",
    otherName:
      "Name the server in the url as its certificate does, or have one issued for this name; sslmode=verify-ca checks the authority alone.",
  }),
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: OWN_PAIR,
  ERR_OSSL_PEM_NO_START_LINE: OWN_PAIR,
  ERR_OSSL_UNSUPPORTED: OWN_PAIR,
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: OWN_REFUSED,
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: OWN_REFUSED,
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: OWN_REFUSED,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: OWN_REFUSED,
  "ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE": OWN_REFUSED,
};

/** The driver's message. */
export const NO_TLS = /does not support SSL/;

/** A failure during the handshake, or before it. `text` is used if the driver gives no code. */
export function handshakeFailure(code: string, text: string): TlsFailure | undefined {
  const known = FAILURES[code];
  if (known !== undefined) return known;
  if (NO_TLS.test(text)) {
    return {
      what: "the server does not speak TLS",
      fix: "Set ssl = on with a certificate on the server; or, where the network is trusted, sslmode=prefer or sslmode=disable in the url.",
    };
  }
  if (!isTlsCode(code)) return undefined;
  return { what: code, fix: "Check sslmode, sslrootcert, sslcert and sslkey in the url." };
}

/**
 * pg_hba.conf has a line only for encrypted connections, or only for certificates. The server has one SQLSTATE for
 * every refusal by pg_hba.conf; with messages in another language the failure counts as a refused login.
 */
export function refusedWithoutTls(text: string): TlsFailure | undefined {
  if (text.endsWith("no encryption")) {
    return {
      what: "the server takes no connection without TLS from this role and address",
      fix: "Set sslmode=require, or stronger, in the url.",
    };
  }
  if (!/requires a valid client certificate/.test(text)) return undefined;
  return { what: "the server wants a client certificate", fix: OWN_REFUSED.fix };
}
