/** What must hold of the records of a table, whatever happened to those that wrote them. */
import type { ReadRecord } from "./kafka-topics.ts";

/**
 * One line for each change of the log that is there twice, or behind a later one of its key. Rows that were read may come
 * again. `records`: partition by partition, of a topic of which no offset was reset.
 */
export function streamFaults(records: readonly ReadRecord[]): readonly string[] {
  const newest = new Map<string, bigint>();
  const seen = new Set<string>();
  const faults: string[] = [];
  for (const { topic, partition, key, value, headers } of records) {
    if (value === null) continue;
    const { op } = JSON.parse(value);
    if (op === "r" || op === "s") continue;
    const [version, index] = [headers.get("millrace-version")!, headers.get("millrace-index")!];
    const row = `${topic} ${partition} ${key}`;
    // A key may be left and taken again in one change of two rows.
    const change = `${row} ${version} ${index} ${op}`;
    if (seen.has(change)) faults.push(`twice: ${change}`);
    seen.add(change);
    const place = (BigInt(version) << 40n) + BigInt(index);
    if ((newest.get(row) ?? 0n) > place) faults.push(`behind a later one: ${change}`);
    newest.set(row, place);
  }
  return faults;
}
