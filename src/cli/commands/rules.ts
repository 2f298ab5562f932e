import type { Config } from "../../config/config.ts";
import type { CapturedTables, TableShape } from "../../core/contracts/catalog.ts";
import type { TableName } from "../../core/contracts/connector.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { selectedName } from "../../core/table-selection.ts";
import { isSelectedBy } from "../../daemon/ruled-source.ts";
import { rulesError } from "../../rules/errors.ts";
import { suggestion } from "../../rules/nearest.ts";
import { RuleBook } from "../../rules/rule-book.ts";
import { type Shown, type Trial, type TriedRow, tryRules } from "../../rules/trial.ts";
import { withFunctions, withRules } from "../../rules/with-rules.ts";
import { rulesMemory } from "../check/check.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { exactJson } from "../../core/values/exact-json.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { followNames } from "../follow-names.ts";
import { whileOpen } from "../opened.ts";
import { printable } from "../printable.ts";
import type { Session } from "../session.ts";
import { tableText } from "../table.ts";

const ROWS = "10";
const TIMEOUT_MS = 60_000;
const HIDDEN = "(hidden)";
const CHARACTERS_MAX = 60;

export function addRules({ program, action }: CommandLine): void {
  const rules = program.command("rules").description("what the rules of `tables` make of rows");
  rules
    .command("try <table>")
    .description(
      "rows of a table now, and as the sinks get them; writes nothing. Exits with 1 if a function fails on one",
    )
    .option("--limit <count>", "how many rows, in key order", ROWS)
    .option("--show-before", "also the values that rules hide, as the source has them")
    .action(
      action("none", async (session, options, [table = ""]) => {
        return await show(session, table, options.count("--limit"), options.has("--show-before"));
      }),
    );
}

async function show(session: Session, name: string, rowCount: number, showsBefore: boolean): Promise<ExitCode> {
  const { id, trial } = await tried(session, name, rowCount);
  const rows = trial.rows.map((row) => documentOf(row, trial, showsBefore));
  const failedCount = trial.rows.filter(({ failed, isStable }) => failed !== null || !isStable).length;
  session.print({ table: id, rows, failed: failedCount }, textOf(trial, showsBefore));
  return failedCount > 0 ? EXIT.failed : EXIT.done;
}

async function tried(session: Session, name: string, rowCount: number): Promise<{ id: string; trial: Trial }> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  return await whileTrying(await session.config(), signal, async ({ tables, refused, tryTable }) => {
    const shape = tables.find((table) => table.id === name || selectedName(table) === name);
    if (shape === undefined) {
      const why = refused.find(({ id }) => id === name)?.reason ?? suggestion(name, tables.map(selectedName));
      throw cliError("MR1110", `${JSON.stringify(name)} is no captured table; ${why}`);
    }
    return { id: shape.id, trial: await tryTable(shape, rowCount) };
  });
}

/** The captured tables, and what the rules make of their rows. */
interface Trying extends CapturedTables {
  readonly tryTable: (shape: TableShape, rowCount: number) => Promise<Trial>;
  /** Its names in the sinks. */
  readonly named: (shape: TableShape) => TableName;
}

export async function whileTrying<T>(
  config: Config,
  signal: AbortSignal,
  work: (trying: Trying) => Promise<T>,
): Promise<T> {
  const rules = withFunctions(config.rules);
  let memory = await rulesMemory(config);
  return await whileOpen(config.source.connector.create(SILENT), async (source) => {
    const isSelected = isSelectedBy(config.source);
    const ruled = withRules(source, rules, memory, isSelected);
    const captured = await source.catalog.tables(signal);
    const book = new RuleBook(rules, memory, isSelected);
    book.begin(captured);
    const expectFit = (shape: TableShape): void => {
      const [first, ...rest] = book.problems([shape], captured.tables);
      if (first !== undefined) throw rulesError([first, ...rest]);
    };
    return await work({
      ...captured,
      tryTable: async (shape, rowCount) => {
        expectFit(shape);
        const trial = await tryRules(source, book, { shape, maskKey: rules.maskKey, rowCount }, signal);
        // Invariant: what is shown was read under a name that the table had all the time since the daemon read the log.
        memory = await followNames(ruled, memory, signal);
        expectFit(shape);
        return trial;
      },
      named: (shape) => book.shape(shape),
    });
  });
}

/** What no sink gets is hidden here too: a masked or dropped column, and all of a row that the filter leaves out. */
function isHidden({ lineage }: Trial, { after }: TriedRow, source: string): boolean {
  const found = lineage.find((one) => one.source === source);
  return after === null || found === undefined || found.target === null || found.mask !== null;
}

function documentOf(row: TriedRow, trial: Trial, showsBefore: boolean): object {
  const { before, after, failed, isStable } = row;
  const names = [...before.keys()];
  const hidden = showsBefore ? [] : names.filter((name) => isHidden(trial, row, name));
  const shown = new Map([...before].filter(([name]) => !hidden.includes(name)));
  return { before: valuesOf(shown), hidden, after: after === null ? null : valuesOf(after), failed, isStable };
}

function valuesOf(shown: Shown): object {
  return Object.fromEntries(Array.from(shown, ([name, text]) => [name, exactJson(text)]));
}

function textOf(trial: Trial, showsBefore: boolean): string {
  if (trial.rows.length === 0) return "the table has no rows";
  return trial.rows.map((row, i) => rowText(row, i + 1, trial, showsBefore)).join("\n\n");
}

function rowText(row: TriedRow, number: number, trial: Trial, showsBefore: boolean): string {
  const { before, after, failed, isStable } = row;
  const source = (name: string): string =>
    !showsBefore && isHidden(trial, row, name) ? HIDDEN : cut(before.get(name) ?? "");
  const columns = trial.lineage.map(({ source: column, target }) => {
    const now = after === null ? "" : target === null ? "(dropped)" : cut(after.get(target) ?? "");
    const title = target === null || target === column ? column : `${column} → ${target}`;
    return [printable(title), source(column), now];
  });
  const computed = trial.computed.map(({ target, from, function: of }) => {
    const now = after === null ? "" : cut(after.get(target) ?? "(failed)");
    return [printable(target), printable(`${of}(${from.join(", ")})`), now];
  });
  return [
    `row ${number}${after === null ? ": the filter leaves it out" : ""}`,
    tableText(["column", "before", "after"], [...columns, ...computed]),
    ...(failed === null ? [] : [`column ${failed.column}: ${failed.how}; the row would be a dead letter`]),
    ...(isStable
      ? []
      : ["a second call gave another value: a function is not pure, and a comparison would find differences"]),
  ].join("\n");
}

function cut(text: string): string {
  const shown = printable(text);
  return shown.length > CHARACTERS_MAX ? `${shown.slice(0, CHARACTERS_MAX)}…` : shown;
}
