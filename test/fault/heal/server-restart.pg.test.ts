/**
 * The source's server ends and comes back: the daemon goes on by itself, with all that was committed.
 * @module-tag heavy
 */
import { Client } from "pg";
import { test } from "vitest";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { PatientWriter, type WriterSession } from "../../support/load/patient-writer.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { endAndComeBack } from "../../support/faults/server-ends.ts";
import { ownPostgres } from "../../support/run/services.ts";

const ENDS = ["kill", "stop", "kill", "pause"] as const;
const KEYS = 200;

test("postmaster killed, shut down and frozen under load, and started again", async () => {
  await using server = await ownPostgres();
  await using source = await createFreshDatabase(server);
  const random = new Random(testSeed());
  await using writer = new PatientWriter(() => openSession(source.url, random));
  await source.query(
    `create table t (id int primary key, n int, body text); alter table t alter body set storage external`,
  );
  await using pipeline = await RunningPipeline.start("select 1", {
    source: { ...source, [Symbol.asyncDispose]: async () => {} },
    kinds: ["postgres", "duckdb"],
  });
  writer.start();
  await endAndComeBack(ENDS, server, writer, pipeline, /^MR20/);
  await writer.stop();
  await pipeline.expectEqual(["t"]);
});

async function openSession(url: string, random: Random): Promise<WriterSession> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000, query_timeout: 5_000 });
  // The next query says it.
  client.on("error", () => {});
  await client.connect();
  return {
    async commit() {
      const id = random.below(KEYS);
      if (random.chance(0.1)) await client.query("delete from t where id = $1", [id]);
      else {
        await client.query("insert into t values ($1, 0, $2) on conflict (id) do update set n = t.n + 1", [
          id,
          random.text(2_500),
        ]);
      }
    },
    end: () => client.end(),
  };
}
