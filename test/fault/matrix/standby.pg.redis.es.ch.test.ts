/** A standby as the source: the daemon's connections lead there and, where it knows it, to the primary. */
import { test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { DRILL, DRILLED_KINDS, DRILLED_TABLE, drillThrough } from "../../support/faults/drill.ts";
import { FailoverPair } from "../../support/faults/failover-pair.ts";
import { isLeastMode } from "../../support/postgres/least-mode.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { needsPostgres } from "../../support/run/services.ts";

for (const hasPrimary of [true, false]) {
  const name = `postgres, a standby ${hasPrimary ? "with" : "without"} primaryUrl`;
  test(
    `everything between ${name} and its sinks breaks while rows are written, and all are equal`,
    DRILL,
    async (context) => {
      needsPostgres(16, context);
      context.skip(isLeastMode, "a standby takes no roles");
      await using pair = await FailoverPair.start({ syncSlots: false, waits: false });
      await using _ = hasPrimary ? null : pair.logRunning();
      const source = await createFreshDatabase(pair);
      const publication = `millrace_${source.name}`;
      const prepare = async (): Promise<void> => {
        const statements = [
          ...DRILLED_TABLE,
          ...(hasPrimary ? [] : [`create publication ${publication} for table orders`]),
        ];
        await source.query(statements.join(";"));
        await pair.addStandby();
      };
      await using pipeline = await RunningPipeline.start(prepare, {
        source,
        kinds: DRILLED_KINDS,
        configure: (config) => ({
          ...config,
          source: {
            ...config.source,
            url: FailoverPair.urlAt(pair.standby, source),
            ...(hasPrimary ? { primaryUrl: FailoverPair.urlAt(pair.primary, source) } : {}),
          },
        }),
      });
      const primary = hasPrimary ? { "its primary": pair.primary.url } : {};
      await drillThrough(pipeline, name, pair.standby.url, primary);
      await pair.replayed();
      await pipeline.expectEqual(["orders"]);
    },
  );
}
