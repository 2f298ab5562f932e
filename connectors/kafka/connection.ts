/** The keys that say how a cluster is reached, for sink and source. */
import * as z from "zod";
import { idleTlsKeys, tlsKeys, tlsSettings } from "../../src/tls/keys.ts";
import { tlsOptions } from "../../src/tls/options.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../src/passwords/password.ts";
import type { ClusterAccess, ClusterSettings, SaslSettings } from "./client/cluster.ts";
import { refusing } from "../../src/core/idle-keys.ts";
import { isTopicText } from "./names.ts";

const login = z.strictObject({
  mechanism: z
    .enum(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
    .describe("How user and password are sent. PLAIN only with `tls`, or in a network that is trusted."),
  username: z.string().min(1).describe("The login's user."),
  password: z.string().optional().describe("Default: from `passwordCommand` or `passwordFile`."),
  ...passwordKeys,
});

const sasl = login
  .refine(
    ({ password, passwordCommand, passwordFile }) => (password ?? passwordCommand ?? passwordFile) !== undefined,
    {
      error: "expected `password`, `passwordCommand` or `passwordFile`",
    },
  )
  .superRefine(
    refusing(function* (options) {
      yield idlePassword(options, options.password);
    }),
  );

const tls = z.strictObject(tlsKeys("the brokers'")).superRefine(
  refusing(function* (options) {
    yield* idleTlsKeys(options, []);
  }),
);

export const connectionKeys = {
  brokers: z
    .array(z.string().regex(/^[^\s/@:]+:\d+$|^\[[0-9a-fA-F:]+\]:\d+$/, { error: "expected host:port" }))
    .min(1)
    .describe("host:port of one or more brokers; they name the others, whose advertised addresses must be reachable."),
  prefix: z
    .string()
    .max(100)
    .refine(isTopicText, { error: "expected letters, digits, dots, underscores and hyphens" })
    .default("")
    .describe("What the name of every topic begins with."),
  tls: z
    .union([z.boolean(), tls])
    .default(false)
    .describe(
      "Whether the connection is encrypted; with an authority of your own, or a client certificate: an object.",
    ),
  sasl: sasl.optional().describe("The login. Default: none, or the client certificate."),
};

type Connection = z.output<z.ZodObject<typeof connectionKeys>>;

/** Reads the files for TLS. */
export function clusterOf(
  { brokers, tls, sasl: given }: Pick<Connection, "brokers" | "tls" | "sasl">,
  folder: string,
  clientId: string,
): ClusterSettings {
  return {
    brokers,
    clientId,
    tls: tls === false ? null : tlsOptions(tlsSettings(tls === true ? {} : tls, folder), true),
    sasl: given === undefined ? null : loginOf(given, folder),
  };
}

/** The client is loaded with the first connection. */
export function accessTo(settings: () => ClusterSettings): ClusterAccess {
  const connect: ClusterAccess["connect"] = async (signal) =>
    await (await import("./client/connect.ts")).connect(settings, signal);
  return { settings, connect };
}

function loginOf(given: z.output<typeof login>, folder: string): SaslSettings {
  const { mechanism, username, password = "" } = given;
  return { mechanism, username, password: freshPassword(given, folder) ?? password };
}
