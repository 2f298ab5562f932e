import type { Bound } from "./connectors.ts";
import type { Sink } from "../core/contracts/sink.ts";
import { tableId } from "../core/model/schema.ts";
import type { EnvelopeContext } from "../core/model/envelope.ts";
import { originOf } from "../routes/routed-tables.ts";
import { routedSink } from "../routes/routed-sink.ts";
import type { Routes } from "../routes/routes.ts";

/** A sink of the configuration behind its routes: what it makes, checks and grants has the names that its tables have there. */
export function routedConnector(bound: Bound<Sink>, routes: Routes): Bound<Sink> {
  if (routes.text === "" || bound.form === "log") return bound;
  const { reading } = bound;
  return {
    ...bound,
    create: async (log, origin) => routedSink(await bound.create(log, routedContext(origin)), routes),
    check: (signal, tables) =>
      bound.check(
        signal,
        tables?.map((table) => ({
          ...routes.named(table),
          id: tableId(table.schema, table.table),
          scope: routes.scopeOf(table) ?? undefined,
        })),
      ),
    grants: (signal, tables) =>
      bound.grants(
        signal,
        tables?.map((table) => routes.named(table)),
      ),
    ...(reading === undefined ? {} : { reading: (table) => reading(routes.named(table)) }),
    at: (url) => routedConnector(bound.at(url), routes),
  };
}

/** Records of the log are found by the source's own blocks. */
function routedContext(context: EnvelopeContext | undefined): EnvelopeContext | undefined {
  const recordPosition = context?.recordPosition;
  if (context === undefined || recordPosition === undefined) return context;
  return {
    ...context,
    recordPosition: (block, row) => {
      const from = originOf(block, row);
      return from === null ? recordPosition(block, row) : recordPosition(from.block, from.row);
    },
  };
}
