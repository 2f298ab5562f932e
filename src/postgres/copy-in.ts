/** A COPY FROM STDIN whose rows are sent piece by piece. The driver keeps the connection, its TLS and its parser. */
import type { Client, Connection, Submittable } from "pg";
import type { Duplex } from "node:stream";
import { StatementFailure } from "./exchange.ts";

const COPY_DATA = 0x64; // d
const COPY_DONE = Buffer.from([0x63, 0, 0, 0, 4]); // c

export class CopyIn implements Submittable {
  readonly #sql: string;
  readonly #started = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #completed = 0;
  #stream: Duplex | undefined;
  #failure: unknown;
  #isDone = false;

  private constructor(sql: string) {
    this.#sql = sql;
    // The sender of rows learns of a failure from its next call.
    this.#started.promise.catch(() => {});
    this.#ended.promise.catch(() => {});
  }

  /** `sql`: statements of which the last one is the COPY. Resolves when the server wants rows. */
  static async begin(client: Client, sql: string): Promise<CopyIn> {
    const copy = new CopyIn(sql);
    client.query(copy);
    await copy.#started.promise;
    return copy;
  }

  /** Resolves when the answer is there or has failed. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Whether the server has something to do. If not, it waits for rows. */
  get isServerBusy(): boolean {
    return this.#isDone || (this.#stream?.writableLength ?? 0) > 0;
  }

  /** Sends a piece of the COPY data; its memory is free again when this resolves. */
  async write(bytes: Uint8Array): Promise<void> {
    const stream = this.#open();
    const head = Buffer.allocUnsafe(5);
    head[0] = COPY_DATA;
    head.writeInt32BE(4 + bytes.length, 1);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    stream.cork();
    stream.write(head);
    stream.write(bytes, (error) => {
      if (error) reject(new StatementFailure(error, this.#completed));
      else resolve();
    });
    stream.uncork();
    await promise;
    this.#open();
  }

  /** Ends the COPY and waits for the answer. */
  async finish(): Promise<void> {
    this.#open().write(COPY_DONE);
    this.#isDone = true;
    await this.#ended.promise;
  }

  #open(): Duplex {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#stream === undefined) throw new Error("the server asks for rows first");
    return this.#stream;
  }

  submit(connection: Connection): void {
    this.#stream = connection.stream;
    connection.query(this.#sql);
  }

  // The driver calls the following methods, one per backend message.
  handleRowDescription(): void {}
  handlePortalSuspended(): void {}
  handleEmptyQuery(): void {}
  handleDataRow(): void {}

  handleCopyInResponse(): void {
    this.#started.resolve();
  }

  handleCommandComplete(): void {
    this.#completed++;
  }

  handleReadyForQuery(): void {
    this.#ended.resolve();
    this.#started.reject(new Error("the statements have no COPY"));
  }

  handleError(error: unknown): void {
    this.#failure = new StatementFailure(error, this.#completed);
    this.#started.reject(this.#failure);
    this.#ended.reject(this.#failure);
  }
}
