/**
 * The databases that the server leaves out of its log (binlog-do-db, binlog-ignore-db). Rows are left out by the database
 * of their table; statements, which alter and empty tables, by the database that their session stands in.
 */
import type { SourceContext } from "../context.ts";
import { readLogStatus } from "../log/log-state.ts";

export class LogFilter {
  readonly #only: ReadonlySet<string>;
  readonly #ignored: ReadonlySet<string>;
  /** As the server lists them; a name may have commas itself. */
  readonly #ignoredText: string;

  constructor(only: string, ignored: string) {
    this.#only = new Set(namesIn(only));
    this.#ignoredText = ignored.toLowerCase();
    this.#ignored = new Set(namesIn(this.#ignoredText));
  }

  /** False: the log has all databases. */
  get isSet(): boolean {
    return this.#only.size > 0 || this.#ignored.size > 0;
  }

  /** The setting by which the log leaves out rows of this database; undefined if it has them. In doubt it does not. */
  excludes(schema: string): "binlog-do-db" | "binlog-ignore-db" | undefined {
    if (this.#only.size > 0) return this.#only.has(schema) ? undefined : "binlog-do-db";
    const name = schema.toLowerCase();
    const isIgnored = this.#ignored.has(name) || (name.includes(",") && this.#ignoredText.includes(name));
    return isIgnored ? "binlog-ignore-db" : undefined;
  }

  /** For messages: which sessions' statements are not in the log. */
  get sessions(): string {
    if (this.#only.size > 0) return `that stand in no database, or in another one than ${[...this.#only].join(", ")}`;
    return `that stand in ${[...this.#ignored].join(", ")}`;
  }
}

export async function readLogFilter(context: SourceContext, signal: AbortSignal): Promise<LogFilter> {
  const { only, ignored } = await readLogStatus(context, signal);
  return new LogFilter(only, ignored);
}

function namesIn(list: string): readonly string[] {
  return list.split(",").filter((name) => name !== "");
}
