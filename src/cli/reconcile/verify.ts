import { createHash } from "node:crypto";
import { stringify } from "yaml";
import * as z from "zod";
import { systemClock, timestamp } from "../../core/clock.ts";
import type { ReconcileDocument } from "../../core/contracts/reconciliation.ts";
import type { Readable, ReadableTables } from "../../core/contracts/readable.ts";
import { namesOfTable } from "../../core/model/schema.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { driftIn } from "../../core/comparison-verdict.ts";
import { reportText } from "../../reconcile/report/text.ts";
import { pairsOf, soughtIn, suggested, type TablePair, type VerifyMap } from "../../reconcile/foreign/pairs.ts";
import { SourceRows } from "../../reconcile/foreign/source-rows.ts";
import { verifyTables } from "../../reconcile/foreign/verify.ts";
import { YamlFile } from "../../config/document.ts";
import { VERSION } from "../../version.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { readNamedFile } from "../files.ts";
import { boundSource } from "../init/init.ts";
import { nameFrom } from "../init/init-file.ts";
import { sinkByUrl } from "../init/init-urls.ts";
import { whileOpen } from "../opened.ts";
import { mustFit } from "../options.ts";
import { exitOf } from "./reconcile.ts";
import type { Session } from "../session.ts";
import { untilSignal } from "../commands/run.ts";

const MAP = z.strictObject({
  tables: z.record(
    z.string(),
    z.strictObject({
      target: z.string().optional(),
      key: z.string().optional(),
      columns: z.record(z.string(), z.string()).default({}),
      ignore: z.array(z.string()).default([]),
      deleted: z.string().optional(),
    }),
  ),
});
const MAP_BYTES_MAX = 4 * 1024 * 1024;

export function addVerify({ program, action }: CommandLine): void {
  program
    .command("verify")
    .description(
      "compare what another tool fills (a database, an index, a cache) with its source, row by row, while both are live; exit code 3 if they differ",
    )
    .requiredOption("--source <url>", "postgres:// or mysql://, of the database that the rows come from")
    .requiredOption(
      "--target <url>",
      "the target that they go to: postgres://, mysql://, clickhouse://, http:// (Elasticsearch, OpenSearch), redis://, or a DuckDB file",
    )
    .option("--tables <globs...>", "schema.table globs of the source; default: all")
    .option("--map <file>", "which table and column of the target stands for which one of the source, as YAML")
    .option("--suggest", "print such a map as the names suggest it, and compare nothing")
    .option("--settle <duration>", "how long the other tool may take to bring a change", "5s")
    .option("--show-values", "also show the values that differ")
    .option("--sample <rows>", "how many differing rows to list per table", "20")
    .action(
      action("none", async (session, options) => {
        const urls = [options.text("--source") ?? "", options.text("--target") ?? ""] as const;
        for (const url of urls) session.secrets.addFromUrl(url);
        const { map, text } = mapIn(options.text("--map"));
        const signal = untilSignal();
        return await whileOpen(sourceAt(session, "--source", urls[0]), async (source) => {
          return await whileOpen(targetAt(session, "--target", urls[1], signal), async (target) => {
            const globs = options.tableGlobs();
            const there = selected(await source.tables(signal, []), globs);
            const pairs = pairsOf(there, await target.tables(signal, soughtIn(there, map)), map);
            if (options.has("--suggest")) {
              session.print(suggested(pairs), stringify(suggested(pairs), { lineWidth: 0 }).trimEnd());
              return EXIT.done;
            }
            const settleMs = options.durationMs("--settle");
            const parts = {
              clock: systemClock,
              source,
              target,
              settle: (until: AbortSignal) => systemClock.sleep(settleMs, until),
              onTable: (pair: TablePair) =>
                session.log.info({ table: pair.source.id, target: pair.target.id }, "comparing"),
              sampleMax: options.count("--sample"),
              showsValues: options.has("--show-values"),
            };
            const startedAt = timestamp(systemClock);
            const found = await verifyTables(pairs, parts, signal);
            const drift = found.tables.some((row) => driftIn(row) > 0);
            const document: ReconcileDocument = {
              ...found,
              id: `${startedAt.replaceAll(/[-:.]/g, "")}-${systemClock.unique(2)}`,
              name: nameFrom(urls[0]),
              startedAt,
              finishedAt: timestamp(systemClock),
              part: null,
              drift,
              alarm: drift,
              suspended: [],
              besides: Array.from(there.besides ?? [], ([table, what]) => ({ table, what })),
              whole: globs.length === 0,
              version: VERSION,
              config: createHash("sha256").update(text).digest("hex"),
            };
            session.print(document, reportText(document));
            return exitOf(document);
          });
        });
      }),
    );
}

async function sourceAt(session: Session, option: string, url: string): Promise<Readable> {
  const bound = await boundSource(session, { name: nameFrom(url), url, tables: [] }, option);
  return new SourceRows(await (bound.rows?.(session.log) ?? bound.create(session.log)));
}

/** A database that could be a source is read as one; other targets as their connectors read them. */
async function targetAt(session: Session, option: string, url: string, signal: AbortSignal): Promise<Readable> {
  const { connectors } = await import("../../../connectors/registry.ts");
  for (const kind of connectors.sourceKinds) {
    const { byUrl } = await connectors.source(kind);
    if (byUrl?.keys(url) != null) return await sourceAt(session, option, url);
  }
  const { kind, connector, keys } = await sinkByUrl(option, url);
  const parsed = connector.parse(keys);
  if (parsed.kind === "invalid") throw cliError("MR1110", `${option} is not a URL that a sink of kind ${kind} takes`);
  const { readable } = parsed.bind({ name: kind, daemon: nameFrom(url), folder: process.cwd() });
  if (readable === undefined)
    throw cliError("MR1110", `${option}: targets of kind ${kind} can't be compared by verify`);
  return await readable(signal);
}

/** What nobody compares is not equal: each glob fits a table. */
function selected(all: ReadableTables, globs: readonly string[]): ReadableTables {
  const selection = new TableSelection(globs);
  const isMeant = ({ schema, table }: { readonly schema: string; readonly table: string }): boolean =>
    selection.matches(schema, table);
  const refused = all.refused.filter(({ isCopy }) => isCopy !== true);
  const known = [...all.tables, ...refused.map(({ id }) => namesOfTable(id))];
  if (known.length === 0) throw cliError("MR1110", "--source: its database shows this login no table", { hint: LOOK });
  if (globs.length > 0) mustFit(globs, known, { what: "table of the source", where: LOOK });
  return {
    ...all,
    tables: all.tables.filter(isMeant),
    refused: refused.filter(({ id }) => isMeant(namesOfTable(id))),
  };
}

const LOOK = "the URL names the database, and the login sees the tables that it may read";

function mapIn(file: string | null): { readonly map: VerifyMap; readonly text: string } {
  if (file === null) return { map: { tables: {} }, text: "" };
  const text = readNamedFile(file, MAP_BYTES_MAX, "MR1110");
  const refused = (why: string, cause?: unknown) =>
    cliError("MR1110", `--map: ${file} can't be used: ${why}`, { cause });
  const document = new YamlFile(text);
  const [fault] = document.problems();
  if (fault !== undefined) throw refused(`line ${fault.line}: ${fault.message}`);
  try {
    return { map: MAP.parse(document.value()), text };
  } catch (error) {
    const why = error instanceof z.ZodError ? z.prettifyError(error) : "its aliases unfold to too much";
    throw refused(why, error);
  }
}
