/** For the team that owns the source: what a migration does to each sink, before it runs. */
import Table from "cli-table3";
import type { Command } from "commander";
import type { Config } from "../../config/config.ts";
import type { CapturedTables } from "../../core/contracts/catalog.ts";
import type { TableSize } from "../../core/contracts/connector.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { findMillraceError } from "../../core/errors.ts";
import { readSmallFile } from "../../core/small-file.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { policyOf } from "../../rules/merged-rule.ts";
import { RuleBook } from "../../rules/rule-book.ts";
import { RuledTables } from "../../rules/ruled-tables.ts";
import { durationOf } from "../arguments.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { withSink } from "../opened-sink.ts";
import type { Session } from "../session.ts";
import { byNames, readBaseline, writeBaseline } from "./baseline.ts";
import { type Comparison, type Outlook, outlooks, type SinkView } from "./outlook.ts";

const LOOK_TIMEOUT_MS = 30_000;
const LOCK_MS_MAX = 1_000;
const SCRIPT_BYTES_MAX = 16 * 1024 * 1024;

export function addOutlooks(schema: Command, actionFor: CommandLine["actionFor"]): void {
  schema
    .command("plan <file>")
    .description(
      "try a migration (SQL) and take it back: what each sink will do; exits with 3 if it stops following a table",
    )
    .option("--on <url>", "the database to try it on, a copy without rows for instance; default: the source")
    .option("--timeout <duration>", "how long the migration may run, and so hold its locks", "10s")
    .action(
      actionFor("none", async (session, options, [file = ""]) => {
        const config = await session.config();
        const url = typeof options["on"] === "string" ? options["on"] : null;
        const tried = await tryOut(config, url, read(file), durationOf("--timeout", options["timeout"]));
        return await report(session, config, { ...tried, isOneDatabase: true });
      }),
    );
  schema
    .command("check")
    .description("compare the source's tables with earlier ones: what each sink will do; exits with 3 as `plan` does")
    .requiredOption("--against <file|url>", "the shapes before: a file of `schema export`, or another database")
    .action(
      actionFor("none", async (session, options) => {
        const config = await session.config();
        const against = String(options["against"]);
        const before = against.includes("://") ? await tablesAt(config, against) : readBaseline(against);
        const after = await tablesAt(config, null);
        const named = { before: byNames(before), after: byNames(after), sizes: new Map<string, TableSize>() };
        return await report(session, config, { ...named, isOneDatabase: false });
      }),
    );
  schema
    .command("export <file>")
    .description("write the shapes of the source's tables as they are now, for `schema check --against`")
    .option("--force", "replace the file if it exists")
    .action(
      actionFor("none", async (session, options, [file = ""]) => {
        const tables = await tablesAt(await session.config(), null);
        writeBaseline(file, tables, options["force"] === true);
        session.print(
          { file, tables: tables.tables.map(({ id }) => id) },
          `wrote ${file}: ${tables.tables.length} tables`,
        );
        return EXIT.done;
      }),
    );
}

async function tablesAt({ source: { connector } }: Config, url: string | null): Promise<CapturedTables> {
  const source = await (url === null ? connector : connector.at(url)).create(SILENT);
  try {
    return await source.catalog.tables(AbortSignal.timeout(LOOK_TIMEOUT_MS));
  } finally {
    await source.close();
  }
}

async function tryOut({ source }: Config, url: string | null, script: string, runMsMax: number) {
  const { trial } = url === null ? source.connector : source.connector.at(url);
  if (trial === undefined)
    throw cliError("MR1141", `a source of kind ${source.kind} can't take a change of a table back`);
  const signal = AbortSignal.timeout(runMsMax + LOOK_TIMEOUT_MS);
  try {
    return await trial({ script, runMsMax: Math.ceil(runMsMax), lockMsMax: LOCK_MS_MAX }, signal);
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    throw cliError("MR1141", `the migration can't be tried: ${known.code} ${known.message}${ofShapes(known.cause)}`);
  }
}

/** The server's own words, if they are about names and syntax; other errors may quote values. */
function ofShapes(cause: unknown): string {
  const isOfShapes = cause instanceof Error && "code" in cause && /^(42|3F|0A|2B)/.test(String(cause.code));
  return isOfShapes ? `: ${cause.message}` : "";
}

function read(file: string): string {
  try {
    return readSmallFile(file, SCRIPT_BYTES_MAX);
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    throw cliError("MR1110", `${file} can't be read (${reason})`);
  }
}

async function report(session: Session, config: Config, compared: Omit<Comparison, "policyOf">): Promise<ExitCode> {
  const { rules } = config;
  const views: SinkView[] = [];
  for (const sink of config.sinks) {
    views.push(
      await withSink(SILENT, sink, ({ form, onLost }) =>
        // What can be filled again at any time is a cache or an index: it has no columns of its own.
        Promise.resolve({
          name: sink.name,
          form,
          hasColumns: onLost === "fail",
          selection: new TableSelection(sink.tables),
        }),
      ),
    );
  }
  // One book for both: a table whose changes are ignored keeps the shape that it has before.
  const tables = new RuledTables(new RuleBook(rules));
  const ruled = (captured: CapturedTables): CapturedTables => {
    if (rules.tables.length === 0) return captured;
    tables.look(captured);
    return tables.captured(captured);
  };
  const [before, after] = [ruled(compared.before), ruled(compared.after)];
  const found = outlooks({ ...compared, before, after, policyOf: (table) => policyOf(rules, table) }, views);
  const isBroken = found.some(({ outcome }) => outcome === "suspend");
  session.print({ breaks: isBroken, outlooks: found }, describe(found, compared.isOneDatabase));
  return isBroken ? EXIT.drift : EXIT.done;
}

function describe(found: readonly Outlook[], isOneDatabase: boolean): string {
  if (found.length === 0) return "nothing changes for any sink";
  const table = new Table({
    head: ["table", "sink", "what it does", "reads", "why"],
    style: { head: [], border: [], compact: true },
  });
  for (const { table: id, sink, outcome, reads, why } of found)
    table.push([id, sink, WORDS[outcome], sizeText(reads), why]);
  const assumed = found.some(({ outcome, why }) => outcome === "follow" && why.includes("column added"));
  const note = "An added column with a default, or one that is computed, makes every sink read the table again.";
  return isOneDatabase || !assumed ? table.toString() : `${table.toString()}\n${note}`;
}

const WORDS: Readonly<Record<Outlook["outcome"], string>> = {
  follow: "follows, without a read",
  resync: "follows, and reads the table again",
  copy: "copies the table",
  leave: "keeps what it has",
  suspend: "SUSPENDS the table",
};

function sizeText(size: TableSize | null): string {
  if (size === null || (size.rows === 0 && size.bytes === 0)) return "-";
  const rows = size.rows.toLocaleString("en-US", { maximumSignificantDigits: 3 });
  return `about ${rows} rows, ${(size.bytes / 1024 ** 2).toFixed(1)} MB`;
}
