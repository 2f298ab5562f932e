import type { SinkConfig } from "../../config/config.ts";
import type { Finding, TableName } from "../../core/contracts/connector.ts";
import { findMillraceError } from "../../core/errors.ts";
import { tableId } from "../../core/model/schema.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { targetsMeet } from "../../runtime/errors.ts";

export interface NamedTargets {
  /** The tables for which the sink has a name. */
  readonly tables: readonly TableName[];
  readonly findings: readonly Finding[];
}

/**
 * Tables for which the sink has no name, and those that share a target name, so that only the first would flow: engines
 * fold case and cut names.
 */
export async function namedTargets(
  { name, connector }: SinkConfig,
  tables: readonly TableName[],
): Promise<NamedTargets> {
  const sink = await connector.create(SILENT);
  try {
    const findings: Finding[] = [];
    const named: TableName[] = [];
    const taken = new Map<string, string>();
    for (const table of tables) {
      const id = tableId(table.schema, table.table);
      try {
        const target = sink.target(table);
        named.push(table);
        const other = taken.get(target);
        if (other === undefined) taken.set(target, id);
        else throw targetsMeet(name, other, id, target);
      } catch (error) {
        const known = findMillraceError(error);
        if (known === undefined) throw error;
        findings.push({ id: known.code, level: "error", what: known.message, fix: known.hint ?? null });
      }
    }
    return { tables: named, findings };
  } finally {
    await sink.close();
  }
}
