/** The source of docs/connectors.md: what a newcomer copies keeps the promises of every source. */
import { DatabaseSync } from "node:sqlite";
import { sourceDefinition, sourceFactory } from "../../examples/source/config.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { sourceConformance } from "./source.ts";

sourceConformance({
  name: "example: a SQLite file",
  async stage() {
    const folder = temporaryFolder();
    const application = new DatabaseSync(folder.file("shop.db"));
    application.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF");
    const options = sourceDefinition.parse({ path: "shop.db" });
    return {
      open: () => sourceFactory.create({ daemon: "shop", folder: folder.path, tables: [], options }, quietLog),
      run: async (statements, end = "commit") => application.exec(["begin", ...statements, end].join("; ")),
      create: (name, isKeyed) =>
        `create table ${name} (id integer ${isKeyed ? "primary key" : "not null"}, name text, amount integer) strict`,
      id: (name) => `main.${name}`,
      async [Symbol.asyncDispose]() {
        application.close();
        folder[Symbol.dispose]();
      },
    };
  },
});
