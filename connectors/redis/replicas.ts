import type { Connection } from "./connection.ts";
import { redisError } from "./errors.ts";

const WAIT_MS = "10000";

/** Returns when that many replicas have this connection's writes; in a cluster it asks each primary. */
export async function waitForReplicas(connection: Connection, count: number): Promise<void> {
  if (count === 0) return;
  for (const primary of connection.primaries()) {
    const reached = await primary.command("wait", String(count), WAIT_MS);
    if (typeof reached !== "number" || reached < count) {
      throw redisError("MR3411", "retryable", `fewer than ${count} replicas confirmed the batch`);
    }
  }
}
