/** A sink that loses something, beside one that must not notice. */
import { Redis } from "ioredis";
import { expect } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../daemon/running-pipeline.ts";
import { elasticsearchUrl, redisUrl } from "../run/services.ts";
import type { SinkKind } from "../daemon/sink-set.ts";
import { eventually } from "../run/waiting.ts";

export const TABLES = ["kept", "moving"];
export const PREPARE = `create table kept (id int primary key, body text);
  create table moving (id int primary key, body text);
  insert into kept select g, repeat('k', g) from generate_series(1, 200) g;
  insert into moving select g, repeat('m', g) from generate_series(1, 100) g`;
const NOTICED_WITHIN_MS = 60_000;

/** The sink in question, and one that must not notice. */
export async function running(kind: SinkKind, options: object = {}): Promise<RunningPipeline> {
  const other = kind === "postgres" ? "duckdb" : "postgres";
  const pipeline = await RunningPipeline.start(PREPARE, {
    kinds: [kind, other],
    configure: (config) => ({
      ...config,
      sinks: { ...config.sinks, [kind]: { ...config.sinks[kind], ...options } },
    }),
  });
  await change(pipeline, "at first");
  await pipeline.settled();
  return pipeline;
}

/** Some of the rows; the others must come from elsewhere than the log. */
export async function change(pipeline: RunningPipeline, text: string): Promise<void> {
  await pipeline.run(`update moving set body = '${text}' where id % 3 = 0; delete from moving where id % 10 = 1;
    insert into moving select id + 1, '${text}' from (select max(id) as id from moving) m`);
}

/** The one sink fails; all others go on. */
export async function failsAlone(pipeline: RunningPipeline, kind: SinkKind, code: RegExp): Promise<void> {
  await eventually(
    async () => {
      // Whatever writes to it must meet what happened; a heartbeat does.
      await change(pipeline, "meanwhile");
      const { state, error } = await sinkOf(pipeline, kind);
      expect({ state, code: error?.code, hint: error?.hint }).toMatchObject({
        state: "failed",
        code: expect.stringMatching(code),
      });
      expect(error?.hint).toBeTruthy();
    },
    { withinMs: NOTICED_WITHIN_MS, everyMs: 250 },
  );
  await eventually(async () => {
    const { sinks } = await pipeline.installation.status();
    for (const { name, state, lagBytes } of sinks) {
      if (name !== kind) expect({ name, state, lagBytes }).toEqual({ name, state: "streaming", lagBytes: 0 });
    }
  });
  const waited = await pipeline.installation.command("wait", "--timeout", "3s");
  expect(waited).toMatchObject({ exitCode: 5, stdout: expect.stringContaining(`sink ${kind} is failed`) });
}

/** The sink is filled again by itself, and the other goes on. */
export async function filledByItself(pipeline: RunningPipeline, kind: SinkKind, code: RegExp): Promise<void> {
  await eventually(
    async () => {
      await change(pipeline, "meanwhile");
      expect(pipeline.daemon.said).toMatch(code);
    },
    { withinMs: NOTICED_WITHIN_MS, everyMs: 250 },
  );
  await change(pipeline, "while it is filled");
  await pipeline.expectEqual(TABLES);
  expect(await sinkOf(pipeline, kind)).toMatchObject({ state: "streaming", error: null, needsPerson: false });
}

export async function filledBySnapshot(pipeline: RunningPipeline, kind: SinkKind): Promise<void> {
  const asked = await pipeline.installation.command("snapshot", "start", "--sink", kind);
  expect(asked).toMatchObject({ exitCode: 0 });
  await change(pipeline, "while it is filled");
  await pipeline.expectEqual(TABLES);
  // And it stays so over a restart.
  await pipeline.daemon.stop();
  await start(pipeline);
  await pipeline.daemon.streaming();
  await change(pipeline, "after a restart");
  await pipeline.expectEqual(TABLES);
}

export async function start(pipeline: RunningPipeline): Promise<void> {
  pipeline.daemon = pipeline.installation.run();
  await eventually(async () => expect((await pipeline.installation.status()).phase).toBe("streaming"), {
    withinMs: NOTICED_WITHIN_MS,
  });
}

export async function restartWith(pipeline: RunningPipeline, sinks: Readonly<Record<string, object>>): Promise<void> {
  await pipeline.daemon.stop();
  pipeline.installation.configure({
    name: pipeline.source.name,
    source: { kind: "postgres", url: pipeline.source.url, heartbeat: "500ms" },
    sinks,
  });
  await start(pipeline);
}

export async function sinkOf(pipeline: RunningPipeline, kind: SinkKind): Promise<StatusDocument["sinks"][number]> {
  const found = (await pipeline.installation.status()).sinks.find(({ name }) => name === kind);
  if (found === undefined) throw new Error(`status knows no sink ${kind}`);
  return found;
}

export async function flushKeys(prefix: string): Promise<void> {
  const client = new Redis(redisUrl());
  for await (const keys of client.scanStream({ match: `${prefix}*`, count: 1_000 })) {
    if (Array.isArray(keys) && keys.length > 0) await client.unlink(...keys.map(String));
  }
  client.disconnect();
}

export async function dropIndices(prefix: string): Promise<void> {
  const listed = await fetch(`${elasticsearchUrl()}/_cat/indices/${prefix}*?h=index&expand_wildcards=all`);
  for (const name of (await listed.text()).split("\n").filter((line) => line.startsWith(prefix))) {
    const deleted = await fetch(`${elasticsearchUrl()}/${encodeURIComponent(name)}`, { method: "DELETE" });
    await deleted.body?.cancel();
  }
}

/** Everything that is committed now is durable in the sink; others may be paused. */
export async function caughtUp(pipeline: RunningPipeline, kind: SinkKind): Promise<void> {
  const { rows } = await pipeline.source.query<{ tip: string }>("select pg_current_wal_lsn()::text as tip");
  await passes(pipeline, rows[0]!.tip, async () => (await sinkOf(pipeline, kind)).position);
}

/** Everything that is committed now may be forgotten by the source. */
export async function acknowledged(pipeline: RunningPipeline): Promise<void> {
  const { rows } = await pipeline.source.query<{ tip: string }>("select pg_current_wal_lsn()::text as tip");
  await passes(pipeline, rows[0]!.tip, async () => (await pipeline.installation.status()).source.acknowledged);
}

async function passes(pipeline: RunningPipeline, tip: string, position: () => Promise<string | null>): Promise<void> {
  await eventually(async () => {
    const { rows } = await pipeline.source.query<{ passed: boolean }>("select $1::pg_lsn >= $2::pg_lsn as passed", [
      await position(),
      tip,
    ]);
    return rows[0]?.passed === true;
  });
}
