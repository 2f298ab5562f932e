import { openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase } from "../support/run/services.ts";
import { sourceConformance } from "./source.ts";

sourceConformance({
  name: "postgres",
  async stage() {
    const database = await freshDatabase();
    return {
      open: () => openSource(database),
      run: async (statements, end = "commit") => void (await database.query(["begin", ...statements, end].join("; "))),
      create: (name, isKeyed) =>
        `create table ${name} (id int ${isKeyed ? "primary key" : "not null"}, name text, amount int)`,
      id: (name) => `public.${name}`,
      [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
    };
  },
});
