/** A source behind Kafka keeps what every source promises: a real daemon captures the database into the log. */
import type { TestContext } from "vitest";
import { captured, COPIES_NOTHING } from "../support/kafka/captured.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { freshDatabase } from "../support/run/services.ts";
import { sourceConformance } from "./source.ts";

sourceConformance({
  name: "kafka, of Postgres",
  without: COPIES_NOTHING,
  async stage({ skip }: TestContext) {
    skip(!isLongForm(), "it is part of the long form");
    const database = await freshDatabase();
    return {
      ...captured(database.name, { kind: "postgres", url: database.url }, database),
      run: async (statements, end = "commit") => void (await database.query(["begin", ...statements, end].join("; "))),
      create: (name, isKeyed) =>
        `create table ${name} (id int ${isKeyed ? "primary key" : "not null"}, name text, amount int)`,
      id: (name) => `public.${name}`,
    };
  },
});
