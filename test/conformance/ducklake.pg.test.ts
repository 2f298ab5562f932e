/**
 * The promises of a lake whose catalogue is in Postgres; `ducklake.test.ts` has them with one in SQLite.
 *
 * @module-tag long
 */
import { lakeConformance } from "./lake.ts";

lakeConformance("postgres", ["values", "progress", "fence"]);
