/** A program that reads Postgres through `follow` has what every source promises. */
import {
  followedSource,
  FOLLOW_HAS_NONE,
  FORGETS_WHAT_IS_DONE,
  StoredPositions,
} from "../support/library/followed-source.ts";
import { openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase } from "../support/run/services.ts";
import { sourceConformance } from "./source.ts";

sourceConformance({
  name: "postgres, through follow",
  without: { ...FOLLOW_HAS_NONE, ...FORGETS_WHAT_IS_DONE },
  async stage() {
    const database = await freshDatabase();
    const { name, url } = database;
    const stored = new StoredPositions();
    return {
      open: async () => {
        const direct = await openSource(database, { publication: `millrace_${name}` });
        return followedSource({ source: { kind: "postgres", url }, name }, direct, stored);
      },
      run: async (statements, end = "commit") => void (await database.query(["begin", ...statements, end].join("; "))),
      create: (table, isKeyed) =>
        `create table ${table} (id int ${isKeyed ? "primary key" : "not null"}, name text, amount int)`,
      id: (table) => `public.${table}`,
      [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
    };
  },
});
