/**
 * A process that writes the numbered batches of duckdb-writer.ts into a lake until it is killed, or until it fails:
 * `node ducklake-writer.ts CATALOG DATA LEASE`. It prints the number of each batch, and the code of the failure.
 */
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { placeOf } from "../../../connectors/duckdb/lake/place.ts";
import { lakeSink } from "../../../connectors/duckdb/lake/sink.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { blockOf, writesOf } from "../model/blocks.ts";
import { changesOf, refuse, batches } from "./duckdb-writer.ts";
import { checkpointOf } from "../daemon/complete.ts";

async function write(catalog: string, data: string, lease: number): Promise<void> {
  const { signal } = new AbortController();
  const sink = lakeSink({
    name: "lake",
    owner: "shop/lake",
    place: placeOf({ catalog, data }, "/"),
    extensions: await duckdbExtensions(),
    memoryLimit: "256MB",
    threads: 2,
    schema: undefined,
    form: { deletes: "hard", mode: "mirror" },
    maintenance: null,
  });
  const held = await sink.open(lease, signal);
  await sink.prepare([batches], signal);
  for (let n = Number(held?.position.commit ?? 0n) + 1; ; n++) {
    const block = blockOf(changesOf(n));
    const checkpoint = checkpointOf({ epoch: 1, commit: BigInt(n), index: 0 });
    const batch = { kind: "rows", tables: [writesOf(batches, block)], checkpoint } as const;
    for (let isDone = false; !isDone;) {
      try {
        await sink.apply(batch, refuse, signal);
        isDone = true;
      } catch (error) {
        // What the runtime does: a retryable batch is applied again.
        if (findMillraceError(error)?.kind !== "retryable") throw error;
      }
    }
    process.stdout.write(`${n}\n`);
  }
}

const [catalog, data, lease] = process.argv.slice(2);
if (import.meta.main && catalog !== undefined && data !== undefined) {
  await write(catalog, data, Number(lease)).catch((error: unknown) => {
    process.stdout.write(`${findMillraceError(error)?.code ?? String(error)}\n`);
    process.exitCode = 1;
  });
}
