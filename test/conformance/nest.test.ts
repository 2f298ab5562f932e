import { Nest } from "../../connectors/nest/nest.ts";
import { SqliteSink } from "../../connectors/sqlite/sink.ts";
import { sqliteLanding, sqliteRefusal, sqliteTarget } from "../support/warehouses/sqlite-target.ts";
import { sinkConformance } from "./sink.ts";

/** Takes all columns of all tables. */
class WholeNest extends Nest {
  override columns(): ReadonlySet<string> {
    const all = new Set<string>();
    all.has = () => true;
    return all;
  }
}

sinkConformance({
  name: "nest",
  form: { deletes: "hard", mode: "mirror" },
  target: async () => {
    const target = sqliteTarget(undefined, true);
    const { path } = target;
    return {
      ...target,
      makeSink: (_, daemon = "shop") =>
        new SqliteSink({
          name: "replica",
          owner: `${daemon}/replica`,
          path,
          schema: undefined,
          companion: new WholeNest({ path, documents: [] }),
        }),
    };
  },
  landed: sqliteLanding,
  room: /^\//,
  transactional: true,
  namesMeet: true,
  refusal: sqliteRefusal,
  heavy: ["values", "names", "shapes", "compacted changes", "tenants"],
});
