import type { SinkConfig } from "../../config/config.ts";
import type { GrantScript, TableName } from "../../core/contracts/connector.ts";
import { makeRole, quoteIdentifier } from "../../postgres/quote.ts";
import { parsePostgresUrl } from "../../postgres/url.ts";
import { chosenSinks } from "../options.ts";
import { tablesFor, wantedTables } from "../check/check.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { nameFrom } from "../init/init-file.ts";
import { boundSource } from "../init/init.ts";
import { sourceByUrl } from "../init/init-urls.ts";
import type { Session } from "../session.ts";

/** A source that does not answer in this time is one that can't be asked. */
const LOOK_TIMEOUT_MS = 30_000;

interface PlacedScript extends GrantScript {
  /** `source`, `state`, or the sink's name. */
  readonly part: string;
  readonly kind: string;
}

export function addGrants({ program, action }: CommandLine): void {
  program
    .command("grants")
    .description("print the scripts that give the logins of source and sinks what they need, and no more")
    .option("--source", "for the source only")
    .option("--sink <name>", "for this sink only")
    .option("--for <url>", "for the source of this URL, without a config: postgres://… or mysql://…")
    .option("--tables <globs...>", "with --for: schema.table globs; default: every user table with a usable key")
    .action(
      action("none", async (session, options) => {
        const source = options.text("--for");
        if (source !== null) {
          const named = { name: nameFrom(source), url: source, tables: options.tableGlobs() };
          const scripts = await sourceGrants(session, named);
          session.print({ scripts }, scriptsText(scripts));
          return EXIT.done;
        }
        const config = await session.config();
        const sink = options.text("--sink");
        const isSource = options.has("--source");
        const chosen = new Set(isSource && sink === null ? [] : chosenSinks(config, sink));
        const sinks = config.sinks.filter(({ name }) => chosen.has(name));
        const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
        const scripts: PlacedScript[] = [];
        if (isSource || sink === null) {
          const { kind, connector } = config.source;
          scripts.push(...placed("source", kind, await connector.grants(signal)));
        }
        const { url } = config.state;
        if (!isSource && sink === null && url.startsWith("postgres"))
          scripts.push(...placed("state", "postgres", stateGrants(url.slice(0, url.indexOf("#")))));
        const wanted = sinks.length === 0 ? undefined : (await wantedTables(config, signal))?.tables;
        for (const each of sinks) scripts.push(...(await scriptsOf(each, wanted, signal)));
        session.print({ scripts }, scriptsText(scripts));
        return EXIT.done;
      }),
    );
}

/** What the login of a source needs, without a configuration. */
export async function sourceGrants(
  session: Session,
  source: { readonly name: string; readonly url: string; readonly tables: readonly string[] },
): Promise<readonly PlacedScript[]> {
  session.secrets.addFromUrl(source.url);
  const { kind } = await sourceByUrl("--for", source.url);
  const bound = await boundSource(session, source);
  return placed("source", kind, await bound.grants(AbortSignal.timeout(LOOK_TIMEOUT_MS)));
}

export function scriptsText(scripts: readonly PlacedScript[]): string {
  return scripts.map(text).join("\n\n");
}

async function scriptsOf(
  sink: SinkConfig,
  wanted: readonly TableName[] | undefined,
  signal: AbortSignal,
): Promise<readonly PlacedScript[]> {
  return placed(sink.name, sink.kind, await sink.connector.grants(signal, tablesFor(sink, wanted)));
}

/** What the role of a state on Postgres needs: a schema of its own, and no right to make others. */
function stateGrants(url: string): readonly GrantScript[] {
  const { user, database } = parsePostgresUrl(url);
  const role = quoteIdentifier(user);
  const script = [
    ...makeRole(user, "logs in"),
    `GRANT CONNECT ON DATABASE ${quoteIdentifier(database)} TO ${role};`,
    "CREATE SCHEMA IF NOT EXISTS millrace;",
    `GRANT USAGE, CREATE ON SCHEMA millrace TO ${role};`,
  ].join("\n");
  const by = `a superuser or the owner of database ${quoteIdentifier(database)}, in that database`;
  return [{ by, language: "sql", script }];
}

export function placed(part: string, kind: string, scripts: readonly GrantScript[]): readonly PlacedScript[] {
  return scripts.map((script) => ({ part, kind, ...script }));
}

function text({ part, kind, by, language, script }: PlacedScript): string {
  return `${language === "sql" ? "--" : "#"} ${part} (${kind}), to be run by ${by}\n${script}`;
}
