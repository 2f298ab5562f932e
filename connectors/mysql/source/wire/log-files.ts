/** The files of the server's log: their names and sizes, where the log ends, and what the server leaves out of it. */
import { sourceError } from "../errors.ts";
import { readDump } from "./dump.ts";
import { EventHeader, FORMAT_DESCRIPTION } from "./event-header.ts";
import { FILE_START, packPosition, startOf, type LogFileSize } from "./position.ts";
import type { Server } from "./server.ts";
import { either } from "./server-facts.ts";

export class LogFiles {
  readonly #server: Server;
  /** Oldest first, as of the last request. */
  #sizes: readonly LogFileSize[] = [];
  /** When a file was last written. */
  #closed: { readonly file: number; readonly at: number } | undefined;

  constructor(server: Server) {
    this.#server = server;
  }

  get sizes(): readonly LogFileSize[] {
    return this.#sizes;
  }

  async read(signal: AbortSignal): Promise<readonly LogFileSize[]> {
    const { names } = this.#server;
    const rows = await this.#server.rows("asking for the log's files", "SHOW BINARY LOGS", signal);
    const listed = rows.map(([name, size]) => ({ file: names.learn(name ?? ""), size: Number(size ?? 0) }));
    // A file that was removed by hand stays in the list, without a size. Nothing can be read over it.
    this.#sizes = listed.slice(1 + listed.findLastIndex(({ size }) => size === 0));
    return this.#sizes;
  }

  /** Where the log ends: everything that was committed before the call is before it. */
  async tip(signal: AbortSignal): Promise<bigint> {
    const { file, offset } = await this.#status(signal);
    return packPosition(this.#server.names.learn(file), Number(offset));
  }

  async filter(signal: AbortSignal): Promise<LogFilter> {
    const { only, ignored } = await this.#status(signal);
    return new LogFilter(only, ignored);
  }

  /** The time stamp of the file's first event: after a reset, another file has the same name. */
  async createdAt(file: number, signal: AbortSignal): Promise<number> {
    const header = new EventHeader();
    const take = (bytes: Buffer, start: number): boolean => {
      header.read(bytes, start);
      return header.type !== FORMAT_DESCRIPTION;
    };
    await readDump(this.#server, { from: startOf(file) }, take, "looking at a file of the log", signal);
    return header.timestamp;
  }

  /** By the server's clock. It counts from the file's last write, which is when the next file was begun. */
  async secondsSinceClosed(file: number, signal: AbortSignal): Promise<number> {
    if (this.#closed?.file !== file) this.#closed = { file, at: await this.createdAt(file + 1, signal) };
    const [row] = await this.#server.rows("asking for the time", "SELECT UNIX_TIMESTAMP()", signal);
    return Math.max(0, Number(row?.[0] ?? 0) - this.#closed.at);
  }

  async #status(signal: AbortSignal): Promise<Readonly<Record<"file" | "offset" | "only" | "ignored", string>>> {
    const doing = "asking where the log ends";
    const [row] = await either(this.#server, doing, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS", signal);
    const [file, offset, only, ignored] = row ?? [];
    if (file == null) throw sourceError("MR2005", "fatal", "the server writes no binary log (log_bin is OFF)");
    return { file, offset: offset ?? String(FILE_START), only: only ?? "", ignored: ignored ?? "" };
  }
}

/**
 * The databases that the server leaves out of its log (binlog-do-db, binlog-ignore-db). Rows are left out by the database
 * of their table; statements, which alter and empty tables, by the database that their session stands in.
 */
export class LogFilter {
  readonly #only: ReadonlySet<string>;
  readonly #ignored: ReadonlySet<string>;
  /** As the server lists them; a name may have commas itself. */
  readonly #ignoredText: string;

  /** Lists with commas. */
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

function namesIn(list: string): readonly string[] {
  return list.split(",").filter((name) => name !== "");
}
