/** Two daemons that begin at the same place at the same moment: one has it, and the other is refused with that one's name. */
import { expect, test } from "vitest";
import { definition as clickhouse, factory as clickhouseSinks } from "../../../connectors/clickhouse/config.ts";
import { definition as search, factory as searchSinks } from "../../../connectors/elasticsearch/config.ts";
import { definition as files, factory as filesSinks } from "../../../connectors/files/config.ts";
import { definition as kafka, factory as kafkaSinks } from "../../../connectors/kafka/config.ts";
import { definition as postgres, factory as postgresSinks } from "../../../connectors/postgres/sink/config.ts";
import type { Sink } from "../../../src/core/contracts/sink.ts";
import { findMillraceError, type MillraceError } from "../../../src/core/errors.ts";
import { users } from "../../conformance/sink-rows.ts";
import { put, Reports, rowsBatch, timeout } from "../../conformance/stage.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { quietLog } from "../../support/run/quiet-log.ts";
import {
  clickhouseUrl,
  elasticsearchUrl,
  freshBucket,
  freshColumns,
  freshDatabase,
  freshIndexPrefix,
  kafkaBroker,
} from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";
import { origin } from "../../support/kafka/kafka-scene.ts";

type Make = (daemon: string) => Sink | Promise<Sink>;

interface Place extends AsyncDisposable {
  readonly make: Make;
}

const PLACES: Readonly<Record<string, () => Promise<Place>>> = {
  "a folder": async () => {
    const folder = temporaryFolder();
    const options = files.parse({ path: folder.path, format: "ndjson", roll: { rows: 1 } });
    return {
      make: (daemon) => filesSinks.create({ name: "s", daemon, folder: "/", options }, quietLog),
      [Symbol.asyncDispose]: async () => folder[Symbol.dispose](),
    };
  },
  "a topic": async () => {
    const topics = new KafkaTopics(kafkaBroker());
    const options = kafka.parse({ brokers: [topics.broker], prefix: topics.prefix, topic: "all" });
    return {
      make: (daemon) => kafkaSinks.create({ name: "s", daemon, folder: "/", options, origin }, quietLog),
      [Symbol.asyncDispose]: () => topics[Symbol.asyncDispose](),
    };
  },
  "a bucket": async () => {
    const bucket = await freshBucket();
    const path = `s3://${bucket.bucket}/changes`;
    const options = files.parse({ path, format: "ndjson", roll: { rows: 1 }, s3: bucket.options });
    return {
      make: (daemon) => filesSinks.create({ name: "s", daemon, folder: "/", options }, quietLog),
      [Symbol.asyncDispose]: () => bucket[Symbol.asyncDispose](),
    };
  },
  "an index": async () => {
    const indices = freshIndexPrefix();
    const options = search.parse({ url: elasticsearchUrl(), prefix: indices.prefix, replicas: 0 });
    return {
      make: (daemon) => searchSinks.create({ name: "s", daemon, folder: "/", options }, quietLog),
      [Symbol.asyncDispose]: () => indices[Symbol.asyncDispose](),
    };
  },
  "a table of ClickHouse": async () => {
    const database = freshColumns();
    const options = clickhouse.parse({ url: clickhouseUrl(), schema: database.prefix });
    return {
      make: (daemon) => clickhouseSinks.create({ name: "s", daemon, folder: "/", options }, quietLog),
      [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
    };
  },
  "a table of Postgres": async () => {
    const database = await freshDatabase();
    const options = postgres.parse({ url: database.url });
    return {
      make: (daemon) => postgresSinks.create({ name: "s", daemon, folder: "/", options }, quietLog),
      [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
    };
  },
};
const HEAVY: ReadonlySet<string> = new Set(Object.keys(PLACES).slice(2));

/** Writes until a failure that no other attempt may mend. */
async function writer(sink: Sink, daemon: string): Promise<MillraceError | null> {
  let next = 1;
  return await eventually(
    async () => {
      try {
        if (next === 1) await sink.open(1, timeout());
        if (next === 1) await sink.prepare([users], timeout());
        for (; next <= 3; next++) {
          const batch = rowsBatch(BigInt(next * 10), [users, [put([String(next), daemon, null])]]);
          await sink.apply(batch, new Reports(), timeout());
        }
        return null;
      } catch (error) {
        return refusalIn(error);
      }
    },
    { withinMs: 60_000 },
  );
}

/** Throws what may pass. */
function refusalIn(error: unknown): MillraceError {
  const known = findMillraceError(error);
  if (known?.kind !== "fatal") throw error;
  return known;
}

for (const [name, place] of Object.entries(PLACES)) {
  const options = HEAVY.has(name) ? { tags: ["heavy"] } : {};
  test(`${name} that two daemons make at the same moment is one's; the other says whose`, options, async () => {
    for (let round = 0; round < 3; round++) {
      await using at = await place();
      const daemons = ["one", "two"];
      const sinks = await Promise.all(daemons.map(async (daemon) => await at.make(daemon)));
      const refusals = await Promise.all(daemons.map((daemon, i) => writer(sinks[i]!, daemon)));
      for (const [i, sink] of sinks.entries()) {
        refusals[i] ??= await sink.verify(timeout()).then(
          () => null,
          (error: unknown) => refusalIn(error),
        );
        await sink.close();
      }
      const refused = daemons.filter((_, i) => refusals[i] !== null);
      expect(refused).toHaveLength(1);
      const other = refused[0] === "one" ? "two" : "one";
      expect(refusals.find((one) => one !== null)?.message).toMatch(new RegExp(`\\b${other}\\b`));
    }
  });
}
