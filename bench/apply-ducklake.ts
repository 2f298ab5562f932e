/** Postgres to a lake, against the same peer as apply-duckdb: DuckDB's appender and an upsert into a DuckDB file. */
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { duckdbExtensions } from "../scripts/services/packages/duckdb-extensions.ts";
import { againstLoad } from "./against-load.ts";
import { countIn, DuckdbTarget } from "./apply-duckdb.ts";
import type { BenchOptions, BenchReport } from "./report.ts";

const ROWS = 500_000;
/** The DuckDB sink's. */
const WANTED = 1.2;

export async function run(options: BenchOptions): Promise<BenchReport> {
  await using target = new LakeTarget(await duckdbExtensions());
  const size = { rowCount: Math.round(ROWS * options.scale), wanted: WANTED };
  return await againstLoad("apply-ducklake", target, size, options);
}

class LakeTarget extends DuckdbTarget {
  readonly #extensions: string;
  #catalog = "";

  constructor(extensions: string) {
    super();
    this.#extensions = extensions;
  }

  override sink(folder: string): object {
    this.#catalog = join(folder, "lake.db");
    const data = join(folder, "lake");
    return { kind: "ducklake", catalog: `sqlite:${this.#catalog}`, data, extensions: this.#extensions };
  }

  protected override async countOwn(): Promise<number> {
    const instance = await DuckDBInstance.create(":memory:", { allow_unsigned_extensions: "true" });
    const connection = await instance.connect();
    for (const name of ["ducklake", "sqlite_scanner"]) {
      await connection.run(`LOAD '${this.#extensions}/${name}.duckdb_extension'`);
    }
    await connection.run(`ATTACH 'ducklake:sqlite:${this.#catalog}' AS lake (READ_ONLY)`);
    const count = await countIn(connection, "lake.public.orders");
    connection.closeSync();
    instance.closeSync();
    return count;
  }
}
