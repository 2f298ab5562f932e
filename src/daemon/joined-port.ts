import type { ComparePort } from "../core/contracts/comparing.ts";
import type { TableVersion } from "../core/model/schema.ts";

/** What comparisons ask of two pipelines as one. A sink is of one of them, and so is a table. */
export function joinedPort(tables: ComparePort, documents: ComparePort): ComparePort {
  const of = (sink: string): ComparePort => (documents.sinks.includes(sink) ? documents : tables);
  const has = (port: ComparePort, { id }: TableVersion): boolean => port.tables.some((table) => table.id === id);
  return {
    get sinks() {
      return [...tables.sinks, ...documents.sinks];
    },
    get tables() {
      return [...tables.tables, ...documents.tables];
    },
    get suspended() {
      return new Map([...tables.suspended, ...documents.suspended]);
    },
    get besides() {
      return tables.besides;
    },
    takes: (sink, table) => of(sink).takes(sink, table) && has(of(sink), table),
    unready: (sink, table) => of(sink).unready(sink, table),
    batch: (sink) => of(sink).batch(sink),
    isComparable: (sink) => of(sink).isComparable(sink),
    inspect: (sink, signal) => of(sink).inspect(sink, signal),
    // The sinks that take one table are of one pipeline.
    at: (place, signal) => of(place.sinks[0] ?? "").at(place, signal),
    awaited: (sink, tableId, keys) => of(sink).awaited(sink, tableId, keys),
    repair: (sink, table, keys) => of(sink).repair(sink, table, keys),
    refused: (sink, tableId) => of(sink).refused(sink, tableId),
  };
}
