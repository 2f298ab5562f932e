/** One chunk of the walk, on its way through the sinks that are at its start. */
import type { ComparedPlace, ComparedSlice, ComparePort, SentRows } from "../../core/contracts/comparing.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Look } from "./suspects.ts";
import type { TableComparison } from "./table-comparison.ts";

export interface Stretch {
  readonly after: KeyText | null;
  readonly looks: ReadonlyMap<TableComparison, Look>;
  /** Resolves when the rows are in all queues; null: they never got there. */
  readonly sent: Promise<SentRows | null>;
  readonly place: Promise<ComparedPlace>;
}

interface StretchParts {
  readonly patienceMs: number;
  readonly port: ComparePort;
  readonly table: TableVersion;
}

export function readStretch(
  { patienceMs, port, table }: StretchParts,
  comparisons: readonly TableComparison[],
  after: KeyText | null,
  signal: AbortSignal,
): Stretch {
  const looks = new Map(comparisons.map((comparison) => [comparison, comparison.look()]));
  const bySink = new Map(comparisons.map((comparison) => [comparison.sink, comparison]));
  const sent = Promise.withResolvers<SentRows | null>();
  const request = {
    table,
    sinks: [...bySink.keys()],
    rows: { kind: "range", after },
    patienceMs,
    onSent: sent.resolve,
    compare: async (sink: string, slice: ComparedSlice, compared: AbortSignal) => {
      const comparison = bySink.get(sink)!;
      await comparison.compare(looks.get(comparison)!, slice, compared);
    },
  } as const;
  const place = port.at(request, signal);
  // The error is reported where the place itself is awaited.
  const ended = () => sent.resolve(null);
  place.then(ended, ended);
  return { after, looks, sent: sent.promise, place };
}

export function isAt(cursor: KeyText | null, after: KeyText | null): boolean {
  return JSON.stringify(cursor) === JSON.stringify(after);
}
