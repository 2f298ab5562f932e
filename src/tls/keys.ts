/** The configuration keys of every connector that sets up TLS with this module. */
import { resolve } from "node:path";
import * as z from "zod";
import type { IdleKey } from "../core/contracts/connector.ts";
import type { TlsSettings } from "./options.ts";

/** `servers` names the servers that use TLS, as in "an https://". */
export function tlsKeys(servers: string) {
  return {
    ca: z
      .string()
      .optional()
      .describe(`PEM file with the certificate authority of ${servers} server, in place of those that Node trusts.`),
    cert: z.string().optional().describe("PEM file with the client certificate, for servers that ask for one."),
    certKey: z.string().optional().describe("PEM file with the private key of `cert`, without a passphrase."),
    serverName: z
      .string()
      .min(1)
      .optional()
      .describe("The name in the server's certificate, if it is not the url's host."),
  };
}

/** Keys that do nothing, or not without another. `url`: of one server, or of several of one cluster. */
export function* idleTlsKeys(keys: TlsInput, url: string | readonly string[]): Generator<IdleKey> {
  const urls = typeof url === "string" ? [url] : url;
  const plain = urls.find((one) => !/^(https|rediss):/i.test(one));
  for (const key of ["ca", "cert", "certKey", "serverName"] as const) {
    const other = key === "cert" ? "certKey" : "cert";
    if (keys[key] === undefined) continue;
    if (plain !== undefined) yield [key, `has no use with ${plain.split(":")[0]}://, which does not ask for TLS`];
    else if (key.startsWith("cert") && keys[other] === undefined) yield [key, `has no use without \`${other}\``];
  }
}

interface TlsInput {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly certKey?: string | undefined;
  readonly serverName?: string | undefined;
}

/** Paths are relative to the configuration's folder. */
export function tlsSettings({ ca, cert, certKey, serverName }: TlsInput, folder: string): TlsSettings {
  const pathOf = (path: string | undefined) => (path === undefined ? undefined : resolve(folder, path));
  return { ca: pathOf(ca), cert: pathOf(cert), certKey: pathOf(certKey), serverName };
}
