/** The source's own keys of the configuration, and its factory. */
import { createHash } from "node:crypto";
import * as z from "zod";
import { passwordIn } from "../../../src/passwords/in-url.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../../src/passwords/password.ts";
import type { SourceContext, SourceFactory } from "../../../src/core/contracts/connector.ts";
import { type Logger, SILENT } from "../../../src/core/contracts/telemetry.ts";
import { refusing } from "../../../src/core/idle-keys.ts";
import { parseMysqlUrl } from "../url.ts";
import type { SourceParts, SourceSettings } from "./source-parts.ts";

const SERVER_ID_MAX = 0xffff_ffff;
const COPY_SESSIONS = 2;
const COPY_SESSIONS_MAX = 32;

export const sourceDefinition = z
  .object({
    url: z
      .string()
      .regex(/^(mysql|mariadb):\/\//, { error: "expected mysql://user:password@host:port/database" })
      .describe(
        "mysql://user:password@host:port/database of the server itself; parameters ssl-mode, ssl-ca, ssl-cert, ssl-key. Without `tables` the database is what is captured; without either, all.",
      ),
    ...passwordKeys,
    serverId: z
      .int()
      .min(1)
      .max(SERVER_ID_MAX)
      .optional()
      .describe("The server_id under which the log is read: no replica may have it. Default: made of the name."),
    copySessions: z
      .int()
      .min(1)
      .max(COPY_SESSIONS_MAX)
      .optional()
      .describe("Sessions that read one large table at once in the initial snapshot. Default: 2."),
  })
  .superRefine(
    refusing(function* (options) {
      yield idlePassword(options, passwordIn(options.url));
    }),
  );

type MysqlSourceOptions = z.output<typeof sourceDefinition>;

export const sourceFactory: SourceFactory<MysqlSourceOptions> = {
  create: async (context, log) => {
    const { mysqlSource } = await import("./source.ts");
    return mysqlSource(await partsOf(context, log));
  },
  rows: async (context, log) => {
    const [{ mysqlRows }, { rowParts }] = await Promise.all([import("./source.ts"), import("./source-parts.ts")]);
    return mysqlRows(rowParts(settingsOf(context, log)));
  },
  positions: async () => {
    const { positions } = await import("./positions.ts");
    return positions();
  },
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    const parts = await partsOf(context, SILENT);
    try {
      return await check(parts, signal);
    } finally {
      await parts.server.close();
    }
  },
  grants: async ({ folder, options, tables }) => {
    const { grantScripts } = await import("./check.ts");
    return grantScripts(parseMysqlUrl(options.url, folder), tables);
  },
  grantBy: async ({ folder, options, tables, daemon }, url, signal) => {
    const [{ grantBy }, { Server }] = await Promise.all([import("./check.ts"), import("./wire/server.ts")]);
    const administrator = new Server({ ...parseMysqlUrl(url, folder), database: "" }, serverIdOf(daemon));
    try {
      return await grantBy(parseMysqlUrl(options.url, folder), tables, administrator, signal);
    } finally {
      await administrator.close();
    }
  },
  byUrl: {
    forms: ["mysql://user@host/database", "mariadb://user@host/database"],
    keys: (given) => (/^(mysql|mariadb):\/\//i.test(given) ? { url: given } : null),
  },
};

async function partsOf(context: SourceContext<MysqlSourceOptions>, logger: Logger): Promise<SourceParts> {
  const { sourceParts } = await import("./source-parts.ts");
  return sourceParts(settingsOf(context, logger));
}

function settingsOf(context: SourceContext<MysqlSourceOptions>, logger: Logger): SourceSettings {
  const { daemon, folder, options, tables } = context;
  return {
    address: { ...parseMysqlUrl(options.url, folder), freshPassword: freshPassword(options, folder) },
    readerId: options.serverId ?? serverIdOf(daemon),
    copySessions: options.copySessions ?? COPY_SESSIONS,
    daemon,
    tables,
    chosenKey: context.chosenKey ?? (() => null),
    zeroDates: context.zeroDates ?? (() => "null"),
    logger,
  };
}

/** Above the small numbers that people give to their servers. */
function serverIdOf(daemon: string): number {
  return (createHash("sha256").update(`millrace/${daemon}`).digest().readUInt32BE(0) | 0x1000_0000) >>> 0;
}
