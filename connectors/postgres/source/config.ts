/** The source's own keys of the configuration, and its factory. */
import * as z from "zod";
import { passwordIn } from "../../../src/passwords/in-url.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../../src/passwords/password.ts";
import type { SourceContext as FactoryContext, SourceFactory } from "../../../src/core/contracts/connector.ts";
import { type Logger, SILENT } from "../../../src/core/contracts/telemetry.ts";
import { refusing } from "../../../src/core/idle-keys.ts";
import { TableSelection } from "../../../src/core/table-selection.ts";
import { isOwnTable } from "../own-tables.ts";
import { parsePostgresUrl, type PostgresAddress } from "../../../src/postgres/url.ts";
import { closeAll, type SourceContext } from "./wire/context.ts";
import { classify, named, type UrlKey } from "./errors.ts";

/** As many tables as the initial snapshot reads at once. */
const COPY_SESSIONS = 2;
const COPY_SESSIONS_MAX = 32;

export const sourceDefinition = z
  .object({
    url: z
      .string()
      .regex(/^postgres(ql)?:\/\//, { error: "expected postgres://user:password@host:port/database" })
      .describe(
        "postgres://user:password@host:port/database of the server itself, not of a pooler; parameters as for psql.",
      ),
    primaryUrl: z
      .string()
      .regex(/^postgres(ql)?:\/\//, { error: "expected postgres://user:password@host:port/database" })
      .optional()
      .describe(
        "The primary of the standby that `url` leads to (Postgres 16 and newer): marks and the publication are written there. Default: nothing is written.",
      ),
    ...passwordKeys,
    slot: z
      .string()
      .regex(/^[a-z0-9_]{1,63}$/, { error: "a slot's name has lower-case letters, digits and _ only, at most 63" })
      .optional()
      .describe("Replication slot, made when missing. Default: millrace_<name>."),
    publication: z
      .string()
      .refine((name) => name !== "" && Buffer.byteLength(name) <= 63, { error: "expected 1 to 63 bytes" })
      .optional()
      .describe(
        "Publication, made when missing and then kept in step with `tables`. To one that others made only tables that are named without a wildcard are added. Default: millrace_<name>.",
      ),
    copySessions: z
      .int()
      .min(1)
      .max(COPY_SESSIONS_MAX)
      .optional()
      .describe(
        "Sessions that copy one large table at once into a Postgres sink, at each of the two servers. Default: 2.",
      ),
  })
  .superRefine(
    refusing(function* (options) {
      yield idlePassword(options, passwordIn(options.url) || passwordIn(options.primaryUrl ?? ""));
    }),
  );

type PostgresSourceOptions = z.output<typeof sourceDefinition>;

export const sourceFactory: SourceFactory<PostgresSourceOptions> = {
  create: async (context, log) => {
    const { postgresSource } = await import("./source.ts");
    return postgresSource(await contextOf(context, log));
  },
  positions: async () => (await import("./positions.ts")).POSITIONS,
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    return await briefly(context, (own) => check(own, signal));
  },
  trial: async (context, tried, signal) => {
    const { trial } = await import("./trial.ts");
    return await briefly(context, (own) => trial(own, tried, signal));
  },
  grants: async (context, signal) => {
    const { grants } = await import("./grants.ts");
    return await briefly(context, (own) => grants(own, signal));
  },
  grantBy: async (context, url, signal) => {
    const { grantBy } = await import("./grants.ts");
    return await briefly(context, (own) => grantBy(own, url, signal));
  },
  byUrl: {
    forms: ["postgres://user@host/database"],
    keys: (given) => (/^postgres(ql)?:\/\//i.test(given) ? { url: given } : null),
  },
};

/** For one piece of work: the connection is closed after it. */
async function briefly<T>(
  context: FactoryContext<PostgresSourceOptions>,
  work: (own: SourceContext) => Promise<T>,
): Promise<T> {
  const own = await contextOf(context, SILENT);
  try {
    return await work(own);
  } finally {
    await closeAll(own);
  }
}

async function contextOf(context: FactoryContext<PostgresSourceOptions>, logger: Logger): Promise<SourceContext> {
  const { Database } = await import("./wire/database.ts");
  const { Writer } = await import("./wire/writer.ts");
  const { PlacedMarks } = await import("./wire/placed-marks.ts");
  const { SaidSchemas } = await import("./wire/said-schemas.ts");
  const { KnownLeaves } = await import("./wire/context.ts");
  const { daemon, folder, options, tables, chosenKey, snapshot } = context;
  const fresh = { freshPassword: freshPassword(options, folder) };
  const address = { ...addressOf(options.url, folder, "source.url"), ...fresh };
  const { primaryUrl } = options;
  const primary = primaryUrl === undefined ? null : addressOf(primaryUrl, folder, "source.primaryUrl");
  const database = new Database(address);
  return {
    address,
    database,
    writer: new Writer(database, primary === null ? null : { ...primary, ...fresh }),
    marks: new PlacedMarks(),
    schemas: new SaidSchemas(),
    leaves: new KnownLeaves(),
    provenTrees: new Map(),
    slot: options.slot ?? `millrace_${daemon}`,
    publication: options.publication ?? `millrace_${daemon}`,
    selection: new TableSelection(tables, isOwnTable),
    copySessions: options.copySessions ?? COPY_SESSIONS,
    readsRows: snapshot !== "none",
    chosenKey: chosenKey ?? (() => null),
    logger,
  };
}

function addressOf(url: string, folder: string, key: UrlKey): PostgresAddress {
  try {
    return parsePostgresUrl(url, folder);
  } catch (error) {
    throw named(classify(error, `reading ${key}`), key);
  }
}
