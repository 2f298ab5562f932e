import type { SinkConfig } from "../../config/config.ts";
import type { Finding, TableName } from "../../core/contracts/connector.ts";
import { tableId } from "../../core/model/schema.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { targetsMeet } from "../../runtime/errors.ts";

/** Tables that share a target name, so that only the first would flow: engines fold case and cut names. */
export async function meetingTargets(
  { name, connector }: SinkConfig,
  tables: readonly TableName[],
): Promise<readonly Finding[]> {
  const sink = await connector.create(SILENT);
  try {
    const findings: Finding[] = [];
    const taken = new Map<string, string>();
    for (const table of tables) {
      const id = tableId(table.schema, table.table);
      const target = sink.target(table);
      const other = taken.get(target);
      if (other === undefined) taken.set(target, id);
      else {
        const { code, message, hint } = targetsMeet(name, other, id, target);
        findings.push({ id: code, level: "error", what: message, fix: hint ?? null });
      }
    }
    return findings;
  } finally {
    await sink.close();
  }
}
