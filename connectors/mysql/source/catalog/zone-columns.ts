/** Generated columns whose values depend on the time zone of the session that reads or writes them. */
import type { Finding } from "../../../../src/core/contracts/connector.ts";
import { tableId } from "../../../../src/core/model/schema.ts";
import type { SourceContext } from "../context.ts";

interface Column {
  readonly name: string;
  readonly type: string;
  /** Null: it is not computed at each read. */
  readonly expression: string | null;
}

export async function zoneColumns(context: SourceContext, signal: AbortSignal): Promise<readonly Finding[]> {
  const rows = await context.database.rows(
    "reading the generated columns",
    `SELECT c.table_schema, c.table_name, c.column_name, c.data_type,
       CASE WHEN c.extra LIKE '%VIRTUAL GENERATED%' THEN c.generation_expression END
     FROM information_schema.columns c JOIN (
       SELECT DISTINCT table_schema, table_name FROM information_schema.columns WHERE extra LIKE '%VIRTUAL GENERATED%'
     ) v ON v.table_schema = c.table_schema AND v.table_name = c.table_name
     ORDER BY c.table_schema, c.table_name, c.ordinal_position`,
    signal,
  );
  const captured = rows.filter(([schema, table]) => context.captures(schema ?? "", table ?? ""));
  const byTable = Map.groupBy(captured, ([schema, table]) => tableId(schema ?? "", table ?? ""));
  return [...byTable].flatMap(([table, found]) => {
    const columns = found.map(([, , name, type, expression]) => ({
      name: name ?? "",
      type: type ?? "",
      expression: expression ?? null,
    }));
    return dependent(columns).map((name) => ({
      id: "zone_columns",
      level: "warning" as const,
      what: `the generated column ${name} of ${table} is VIRTUAL and computed from a TIMESTAMP: the log has it in the time zone of the session that wrote the row, rows that are read have it in UTC, so copies may differ from the stream`,
      fix: "Make it STORED, compute it from a DATETIME, or drop it by a rule: columns: { NAME: { drop: true } }. If a rule drops it already, nothing is left to do.",
    }));
  });
}

/** Names of the virtual columns that are computed from a TIMESTAMP, directly or through other columns. */
function dependent(columns: readonly Column[]): readonly string[] {
  const dependentOnZone = new Set(
    columns.filter(({ type }) => type.toLowerCase() === "timestamp").map(({ name }) => name),
  );
  const virtual = columns.filter(({ expression }) => expression !== null);
  const found = new Set<string>();
  for (let size = -1; size !== found.size;) {
    size = found.size;
    for (const { name, expression } of virtual) {
      if (![...dependentOnZone].some((other) => other !== name && names(expression ?? "", other))) continue;
      found.add(name);
      dependentOnZone.add(name);
    }
  }
  return [...found];
}

/** Servers print every name of an expression in backticks. */
function names(expression: string, column: string): boolean {
  return expression.toLowerCase().includes(`\`${column.replaceAll("`", "``").toLowerCase()}\``);
}
