/** The same from a log in Kafka, into which a daemon captures Postgres. */
import type { TestContext } from "vitest";
import { captured, COPIES_NOTHING } from "../support/kafka/captured.ts";
import { followedSource, FOLLOW_HAS_NONE, StoredPositions } from "../support/library/followed-source.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { freshDatabase } from "../support/run/services.ts";
import { sourceConformance } from "./source.ts";

sourceConformance({
  name: "kafka, of Postgres, through follow",
  without: { ...COPIES_NOTHING, ...FOLLOW_HAS_NONE },
  async stage({ skip }: TestContext) {
    skip(!isLongForm(), "it is part of the long form");
    const database = await freshDatabase();
    const capturing = captured(database.name, { kind: "postgres", url: database.url }, database);
    const stored = new StoredPositions();
    return {
      open: async () => followedSource({ source: capturing.follower, name: "reader" }, await capturing.open(), stored),
      run: async (statements, end = "commit") => void (await database.query(["begin", ...statements, end].join("; "))),
      create: (name, isKeyed) =>
        `create table ${name} (id int ${isKeyed ? "primary key" : "not null"}, name text, amount int)`,
      id: (name) => `public.${name}`,
      [Symbol.asyncDispose]: () => capturing[Symbol.asyncDispose](),
    };
  },
});
