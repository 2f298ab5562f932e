/** Connects to a cluster, and finds out why it can't: brokers often end a connection without a word. */
import { atServer, type MillraceError } from "../../../src/core/errors.ts";
import { certificateFailures, tlsFailure, type TlsFailure, tryHandshake } from "../../../src/tls/failure.ts";
import type { Cluster, ClusterSettings } from "./cluster.ts";
import { apiIdsOf, codesOf } from "./failures.ts";
import { LibraryCluster } from "./library-cluster.ts";
import { classify, expectRecent, loginError, tlsError } from "../errors.ts";

const NO_TLS: TlsFailure = {
  what: "the broker does not speak TLS on this port",
  fix: "Correct the port in `brokers`; or, where the network is trusted, leave `tls` out.",
};
const TLS_ALONE: TlsFailure = {
  what: "the broker speaks TLS alone on this port",
  fix: "Set `tls: true`; with an authority of your own name its PEM file in `tls.ca`.",
};
const FAILURES: Readonly<Record<string, TlsFailure>> = certificateFailures({
  untrusted: "Name the PEM file of the authority that signed it in `tls.ca` (a self-signed certificate is its own).",
  expired: "Renew the broker's certificate.",
  otherName:
    "Name the brokers in `brokers` and in their `advertised.listeners` as the certificate does, or give its name in `tls.serverName`.",
});
/** A connection that was ended, or on which nothing made sense. */
const UNSAID = new Set(["PLT_KFK_NETWORK", "PLT_KFK_TIMEOUT", "PLT_KFK_USER", "ECONNRESET", "EPIPE"]);
const UNREACHABLE = /^E(CONNREFUSED|NOTFOUND|AI_|HOST|NET|TIMEDOUT)/;

/** `settings`: made at each call, for a file for TLS may have changed. */
export async function connect(settings: () => ClusterSettings, signal: AbortSignal): Promise<Cluster> {
  let made: ClusterSettings;
  try {
    made = settings();
  } catch (error) {
    throw classify(error, signal);
  }
  const cluster = new LibraryCluster(made);
  try {
    await cluster.brokers(signal);
    expectRecent(await cluster.version("Fetch", signal));
    return cluster;
  } catch (error) {
    const reason = await reasonOf(error, cluster, made, signal);
    await cluster[Symbol.asyncDispose]();
    throw atServer(reason, made.brokers.join(", "));
  }
}

async function reasonOf(
  error: unknown,
  cluster: Cluster,
  { brokers, tls, sasl }: ClusterSettings,
  signal: AbortSignal,
): Promise<MillraceError> {
  const known = classify(error, signal);
  const codes = codesOf(error);
  const ofTls = codes.map((code) => tlsMeaning(code)).find((one) => one !== undefined);
  if (ofTls !== undefined) return tlsError(ofTls, error);
  const isUnsaid = apiIdsOf(error).length === 0 && codes.some((code) => UNSAID.has(code));
  if (known.kind === "aborted" || !isUnsaid || codes.some((code) => UNREACHABLE.test(code))) return known;
  const { hostname, port } = new URL(`kafka://${brokers[0]}`);
  const address = { host: hostname.replaceAll(/[[\]]/g, ""), port: Number(port) };
  // It sends nothing, so it may look at a broker that nobody trusts.
  const { spoke, code } = await tryHandshake(address, tls ?? { rejectUnauthorized: false }, signal);
  if (tls === null && spoke) return tlsError(TLS_ALONE, error);
  if (tls !== null && !spoke) return tlsError(NO_TLS, error);
  const refusal = tls === null || code === undefined ? undefined : tlsMeaning(code);
  if (refusal !== undefined) return tlsError(refusal, error);
  return sasl === null && (await wantsLogin(cluster, signal))
    ? loginError("this listener of Kafka wants a login", error)
    : known;
}

function tlsMeaning(code: string): TlsFailure | undefined {
  return FAILURES[code] ?? tlsFailure(code);
}

/** A listener without logins refuses the question. */
async function wantsLogin(cluster: Cluster, signal: AbortSignal): Promise<boolean> {
  try {
    await cluster.request("SaslHandshake", null, signal, "PLAIN");
    return true;
  } catch (error) {
    return apiIdsOf(error).includes("UNSUPPORTED_SASL_MECHANISM");
  }
}
