/** Documents over tables that are hard to join, in SQLite, and what the source's own SQL makes of the same rows. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect } from "vitest";
import { RunningPipeline } from "../daemon/running-pipeline.ts";

interface Followed {
  readonly columns: readonly string[];
  readonly with: object;
}

export class OddDocuments implements AsyncDisposable {
  readonly pipeline: RunningPipeline;
  readonly #documents: Readonly<Record<string, Followed>>;
  readonly #expected: Readonly<Record<string, string>>;

  private constructor(
    pipeline: RunningPipeline,
    documents: Readonly<Record<string, Followed>>,
    expected: Readonly<Record<string, string>>,
  ) {
    this.pipeline = pipeline;
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
    return new OddDocuments(pipeline, documents, expected);
  }

  async expectEqual(after: string): Promise<void> {
    await this.pipeline.settled();
    for (const [name, sql] of Object.entries(this.#expected)) {
      const { rows } = await this.pipeline.source.query(sql);
      expect({ after, rows: this.#made(name) }).toEqual({ after, rows: rows.map(plain) });
    }
  }

  /** Statements one by one; a text that begins a transaction is one. */
  async run(sql: string): Promise<void> {
    for (const statement of sql.startsWith("begin") ? [sql] : sql.split("; ")) await this.pipeline.run(statement);
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
