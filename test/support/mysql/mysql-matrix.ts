/** Every type of MySQL and MariaDB with its edge values, a column for each type. */
import { EDGE_TYPES } from "./mysql-edge-values.ts";
import { MysqlPipeline } from "./mysql-pipeline.ts";
import { isMysqlFrom, type MysqlFlavour } from "../run/services.ts";
import type { SinkKind } from "../daemon/sink-set.ts";

type TypeValues = readonly [native: string, values: readonly string[]];

/** Numbers of which six digits are printed, and dates that do not exist: what the servers print is not what they are. */
const NOT_PRINTED = /^(float|date|datetime|timestamp|geometry|point|vector)/;
const CALENDAR: readonly TypeValues[] = [
  ["date", ["'1899-12-31'", "'1900-01-01'", "'2299-12-31'", "'2300-01-01'", "'9999-12-31'"]],
  [
    "datetime(6)",
    ["'1000-01-01'", "'1900-01-01'", "'2262-04-11 23:47:16.854775'", "'2299-12-31 23:59:59.999999'", "'2300-01-01'"],
  ],
  ["timestamp(6) null", ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'"]],
];

/** Copied, from the log, and read beside it: each sink equals the source. */
export async function everyTypeLands(flavour: MysqlFlavour, kinds: readonly SinkKind[]): Promise<void> {
  const printed = EDGE_TYPES.filter(
    ({ native, only = flavour, since }) =>
      only === flavour && (since === undefined || isMysqlFrom(flavour, since)) && !NOT_PRINTED.test(native),
  );
  const types = [...printed.map(({ native, values }): TypeValues => [native, values]), ...CALENDAR];
  const columns = types.map(([native], i) => `c${i} ${native}`).join(", ");
  /** A row for each value, in its own column. */
  const fill = (table: string): string[] =>
    types.flatMap(([, values], i) => values.map((value) => `insert into ${table} (c${i}) values (${value})`));
  const make = (table: string): string =>
    `create table ${table} (id int auto_increment primary key, ${columns}) character set utf8mb4`;
  const lenient = "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00', names utf8mb4";
  const made = [lenient, make("copied"), make("streamed"), ...fill("copied")];
  await using pipeline = await MysqlPipeline.start(flavour, made, { kinds });
  await pipeline.run(...fill("streamed"));
  await pipeline.expectEqual("copied", "streamed");
  await pipeline.readAgain("streamed");
  await pipeline.expectEqual("streamed");
}
