/** The source's own keys of the configuration, and its factory. */
import { createHash } from "node:crypto";
import * as z from "zod";
import { freshPassword, idlePassword, passwordIn, passwordKeys } from "../../../src/passwords/password.ts";
import type { SourceContext as FactoryContext, SourceFactory } from "../../../src/core/contracts/connector.ts";
import { type Logger, SILENT } from "../../../src/core/contracts/telemetry.ts";
import { refusing } from "../../kit/idle-keys.ts";
import { TableSelection } from "../../../src/core/table-selection.ts";
import { parseMysqlUrl } from "../url.ts";
import { Reader } from "./reader.ts";
import type { SourceContext } from "./context.ts";
import { Host } from "./transactions/host.ts";
import { Marks } from "./marks.ts";
import { LogNames } from "./log/position.ts";
import { ReadTransactions } from "./transactions/read-transactions.ts";
import { Alterations } from "./catalog/alterations.ts";
import { LoggedShapes } from "./catalog/logged-shapes.ts";
import { Programs } from "./statements/programs.ts";
import { Spelling } from "./statements/spelling.ts";

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

export type MysqlSourceOptions = z.output<typeof sourceDefinition>;

export const sourceFactory: SourceFactory<MysqlSourceOptions> = {
  create: async (context, log) => {
    const { mysqlSource } = await import("./source.ts");
    return mysqlSource(await contextOf(context, log));
  },
  positions: async () => {
    const { positions } = await import("./source.ts");
    return positions({ names: binlogNames(), read: new ReadTransactions(), files: [] });
  },
  check: async (context, signal) => {
    const { check } = await import("./check.ts");
    const own = await contextOf(context, SILENT);
    try {
      return await check(own, signal);
    } finally {
      await own.database.close();
    }
  },
  grants: async ({ folder, options, tables }) => {
    const { grants } = await import("../grants.ts");
    return grants(parseMysqlUrl(options.url, folder), tables);
  },
};

async function contextOf(context: FactoryContext<MysqlSourceOptions>, logger: Logger): Promise<SourceContext> {
  const { Database } = await import("./database.ts");
  const { daemon, folder, options, tables } = context;
  const address = { ...parseMysqlUrl(options.url, folder), freshPassword: freshPassword(options, folder) };
  const selection = new TableSelection(tables);
  const system = new Set(["mysql", "sys", "information_schema", "performance_schema"]);
  const isOwn = (schema: string): boolean =>
    !system.has(schema) && (tables.length > 0 || address.database === "" || schema === address.database);
  const marks = new Marks();
  const host = new Host(() => marks.elsewhere());
  return {
    address,
    host,
    database: new Database({ address, host }),
    serverId: options.serverId ?? serverIdOf(daemon),
    copySessions: options.copySessions ?? COPY_SESSIONS,
    names: binlogNames(),
    spelling: new Spelling(),
    marks,
    read: new ReadTransactions(),
    shapes: new LoggedShapes(logger),
    alterations: new Alterations(),
    programs: new Programs(),
    reader: new Reader(),
    markPrefix: `millrace/${daemon}`,
    captures: (schema, table) => isOwn(schema) && selection.matches(schema, table),
    isLiteral: (schema, table) => selection.isLiteral(schema, table),
    literals: selection.literals,
    idle: (names) => selection.idle(names.filter(({ schema }) => isOwn(schema))),
    chosenKey: context.chosenKey ?? (() => null),
    zeroDates: context.zeroDates ?? (() => "null"),
    metZeroDates: { count: 0 },
    logger,
    log: undefined,
    landmark: undefined,
    files: [],
    withoutIds: new Set(),
    keyless: new Map(),
    dropped: new Set(),
    closed: undefined,
    acknowledged: 0n,
  };
}

function binlogNames(): LogNames {
  return new LogNames("binlog");
}

/** Above the small numbers that people give to their servers. */
function serverIdOf(daemon: string): number {
  return (createHash("sha256").update(`millrace/${daemon}`).digest().readUInt32BE(0) | 0x1000_0000) >>> 0;
}
