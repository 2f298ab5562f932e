/** Documents over tables that are hard to join, in SQLite, and what the source's own SQL makes of the same rows. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect } from "vitest";
import { parse, stringify } from "yaml";
import { runHere } from "../daemon/cli.ts";
import { RunningPipeline } from "../daemon/running-pipeline.ts";
import { MysqlPipeline } from "../mysql/mysql-pipeline.ts";
import type { MysqlFlavour } from "../run/services.ts";

interface Followed {
  readonly columns: readonly string[];
  readonly with: object;
}

export class OddDocuments implements AsyncDisposable {
  readonly pipeline: RunningPipeline | MysqlPipeline;
  readonly #rows: (sql: string) => Promise<readonly unknown[]>;
  readonly #documents: Readonly<Record<string, Followed>>;
  readonly #expected: Readonly<Record<string, string>>;

  private constructor(
    pipeline: RunningPipeline | MysqlPipeline,
    rows: (sql: string) => Promise<readonly unknown[]>,
    documents: Readonly<Record<string, Followed>>,
    expected: Readonly<Record<string, string>>,
  ) {
    this.pipeline = pipeline;
    this.#rows = rows;
    this.#documents = documents;
    this.#expected = expected;
  }

  /** `expected`: by document, the query that makes its rows. */
  static async start<D extends Readonly<Record<string, Followed>>>(
    tables: string,
    documents: D,
    expected: Readonly<Record<keyof D & string, string>>,
  ): Promise<OddDocuments> {
    const pipeline = await RunningPipeline.start(tables, {
      kinds: ["sqlite"],
      configure: (config) => ({
        ...config,
        documents,
        sinks: { sqlite: { ...config.sinks["sqlite"], documents: Object.keys(documents) } },
      }),
    });
    return new OddDocuments(pipeline, async (sql) => (await pipeline.source.query(sql)).rows, documents, expected);
  }

  /** The same of MySQL or MariaDB. All values of `expected` are JSON. */
  static async startMysql<D extends Readonly<Record<string, Followed>>>(
    flavour: MysqlFlavour,
    tables: readonly string[],
    documents: (database: string) => D,
    expected: Readonly<Record<keyof D & string, string>>,
  ): Promise<OddDocuments> {
    let made = {};
    const pipeline = await MysqlPipeline.start(flavour, tables, {
      kinds: ["sqlite"],
      documents: (database) => (made = documents(database)),
      sinks: ({ sqlite }) => ({ sqlite: { ...sqlite, documents: Object.keys(expected) } }),
    });
    const rows = async (sql: string): Promise<readonly unknown[]> => {
      const [found, fields] = await pipeline.source.connection.query(sql);
      const names = fields.map(({ name }) => name);
      const read = (value: unknown): unknown => (typeof value === "string" ? JSON.parse(value) : value);
      return Array.isArray(found)
        ? found.map((row) =>
            Object.fromEntries(names.map((name, i) => [name, Array.isArray(row) ? read(row[i]) : null])),
          )
        : [];
    };
    return new OddDocuments(pipeline, rows, made, expected);
  }

  async expectEqual(after: string): Promise<void> {
    await this.pipeline.settled();
    for (const [name, sql] of Object.entries(this.#expected)) {
      const rows = await this.#rows(sql);
      expect({ after, rows: this.#made(name) }).toEqual({ after, rows: rows.map(plain) });
    }
  }

  /** Statements one by one; to Postgres, a text that begins a transaction is one. */
  async run(sql: string): Promise<void> {
    const { pipeline } = this;
    const isOne = sql.startsWith("begin") && pipeline instanceof RunningPipeline;
    for (const statement of isOne ? [sql] : sql.split("; ")) await pipeline.run(statement);
  }

  /** What `check` says of other documents, by their names. */
  async refusals(documents: Readonly<Record<string, object>>): Promise<Readonly<Record<string, string>>> {
    const { installation } = this.pipeline;
    const { text } = installation;
    const { documents: _, ...config }: Record<string, unknown> = parse(text);
    installation.text = stringify({
      ...config,
      documents,
      sinks: { out: { kind: "sqlite", path: "./o", documents: Object.keys(documents) } },
    });
    try {
      const { stdout } = await runHere(["check", "--json"], installation);
      const { findings }: { findings: readonly { id: string; level: string; what: string }[] } = JSON.parse(stdout);
      const errors = findings.filter(({ id, level }) => id === "MR1040" && level === "error");
      return Object.fromEntries(
        errors.map(({ what }) => [/documents\.(\w+)/.exec(what)?.[1] ?? "", what.replace(/^.*?documents\.\S+: /, "")]),
      );
    } finally {
      installation.text = text;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline[Symbol.asyncDispose]();
  }

  #made(name: string): readonly unknown[] {
    const { columns, with: relations } = this.#documents[name]!;
    using file = new DatabaseSync(join(this.pipeline.installation.folder, "replica.sqlite"), { readOnly: true });
    const fields = [...columns, ...Object.keys(relations)].join(", ");
    return file.prepare(`select ${fields} from "documents.${name}" order by id`).all().map(plain);
  }
}

/** JSON as what it says. */
function plain(row: unknown): unknown {
  const read = (value: unknown): unknown =>
    typeof value === "string" && /^[[{]/.test(value) ? (JSON.parse(value) as unknown) : value;
  return Object.fromEntries(Object.entries(Object(row)).map(([name, value]) => [name, read(value)]));
}
