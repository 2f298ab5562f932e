/** Documents that are made of the source's rows, beside those that the nest makes: see src/documents/document-reads.ts. */
import type { Clock } from "../core/clock.ts";
import { asDeadLetters, count, verb } from "../core/figures.ts";
import type { ComparePort } from "../core/contracts/comparing.ts";
import type { Readable } from "../core/contracts/readable.ts";
import { NotComparableError } from "./errors.ts";
import { pairsOf, type TablePair } from "./foreign/pairs.ts";
import { verifyTables } from "./foreign/verify.ts";
import type { Run } from "./run.ts";

export interface DeepSides {
  /** The name of the nest. */
  readonly sink: string;
  readonly source: Readable;
  readonly nest: Readable;
  /** By a document's table, the tables that it is made of. */
  readonly madeOf: ReadonlyMap<string, readonly string[]>;
  /** Resolves to what is missing when the nest has all that the source had, or when that takes longer. */
  settle(patienceMs: number, signal: AbortSignal): Promise<readonly string[]>;
}

interface DeepParts {
  readonly clock: Clock;
  readonly port: Pick<ComparePort, "refused">;
  readonly isAsked: (tableId: string) => boolean;
}

/** `sides`: null without documents. */
export async function compareDeep(
  run: Run,
  sides: DeepSides | null,
  { clock, port, isAsked }: DeepParts,
  signal: AbortSignal,
): Promise<void> {
  if (sides === null) {
    const reason = "--deep compares documents, and the configuration has none";
    run.notComparable.push({ sink: "documents", table: null, reason });
    return;
  }
  const { source, nest, sink } = sides;
  const { request } = run;
  const [made, held] = await Promise.all([source.tables(signal, []), nest.tables(signal, [])]);
  const { pairs, unpaired } = pairsOf(made, held, { tables: {} });
  const whole: TablePair[] = [];
  for (const pair of pairs.filter(({ source: { id } }) => isAsked(id))) {
    const reason = await lackOf(pair.source.id, sides, port);
    if (reason === null) whole.push(pair);
    else run.notComparable.push({ sink, table: pair.source.id, reason });
  }
  const asked = { pairs: whole, unpaired };
  const found = await verifyTables(
    asked,
    {
      clock,
      source,
      target: nest,
      settle: async (until) => {
        const missing = await sides.settle(request.patienceMs, until);
        if (missing.length > 0) throw new NotComparableError(`the nest is behind: ${missing.join("; ")}`);
      },
      sampleMax: request.sampleMax,
      showsValues: request.showsValues,
      onTable: (pair) => (run.table = pair.source.id),
    },
    signal,
  );
  for (const { table, reason } of found.notComparable)
    if (table === null || isAsked(table)) run.notComparable.push({ sink, table, reason });
  for (const { moving = 0, ...result } of found.tables) {
    const { table } = result;
    run.tables.push({ ...result, sink, unrepairable: result.missing + result.extra + result.different });
    run.rowsCompared += result.compared;
    const reason = `${count(moving, "document")} changed at each look`;
    if (moving > 0) run.notComparable.push({ sink, table, rows: moving, reason });
  }
}

/** Rows that the nest has refused are in no document of its. */
async function lackOf(
  id: string,
  { sink, madeOf }: DeepSides,
  port: Pick<ComparePort, "refused">,
): Promise<string | null> {
  for (const table of madeOf.get(id) ?? []) {
    const { length } = await port.refused(sink, table);
    if (length > 0)
      return `${count(length, "row")} of ${table} ${verb(length, "wait")} ${asDeadLetters(length)} of ${sink}`;
  }
  return null;
}
