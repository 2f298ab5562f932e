import type { SinkConfig } from "../../config/config.ts";
import type { GrantScript, TableName } from "../../core/contracts/connector.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { stateGrants } from "./state-grants.ts";
import { chosenSinks } from "../arguments.ts";
import { wantedTables } from "../check/check.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";

/** A source that does not answer in this time is one that can't be asked. */
const LOOK_TIMEOUT_MS = 30_000;

interface PlacedScript extends GrantScript {
  /** `source`, `state`, or the sink's name. */
  readonly part: string;
  readonly kind: string;
}

export function addGrants({ program, actionFor }: CommandLine): void {
  program
    .command("grants")
    .description("print the scripts that give the logins of source and sinks what they need, and no more")
    .option("--source", "for the source only")
    .option("--sink <name>", "for this sink only")
    .action(
      actionFor("none", async (session, options) => {
        const config = await session.config();
        const sink = typeof options["sink"] === "string" ? options["sink"] : null;
        const isSource = options["source"] === true;
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
        const wanted = sinks.length === 0 ? undefined : await wantedTables(config, signal);
        for (const each of sinks) scripts.push(...(await scriptsOf(each, wanted, signal)));
        session.print({ scripts }, scripts.map(text).join("\n\n"));
        return EXIT.done;
      }),
    );
}

async function scriptsOf(
  { name, kind, tables, connector }: SinkConfig,
  wanted: readonly TableName[] | undefined,
  signal: AbortSignal,
): Promise<readonly PlacedScript[]> {
  const selection = new TableSelection(tables);
  const taken = wanted?.filter(({ schema, table }) => selection.matches(schema, table));
  return placed(name, kind, await connector.grants(signal, taken));
}

function placed(part: string, kind: string, scripts: readonly GrantScript[]): readonly PlacedScript[] {
  return scripts.map((script) => ({ part, kind, ...script }));
}

function text({ part, kind, by, language, script }: PlacedScript): string {
  return `${language === "sql" ? "--" : "#"} ${part} (${kind}), to be run by ${by}\n${script}`;
}
