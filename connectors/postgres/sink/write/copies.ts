/** Statements, and the data of the COPYs among them, in one write. */
import type { TableWrites } from "../../../../src/core/model/batch.ts";
import type { Outcome } from "../../../../src/core/contracts/sink.ts";
import { failpoint } from "../../../../src/core/failpoint.ts";
import { copyDirect, copyStaged } from "./copy.ts";
import { copyDirectText, copyStagedText } from "./copy-text.ts";
import type { Session } from "../wire/session.ts";
import type { TargetTable } from "../tables/target-table.ts";
import type { Answer } from "../../../../src/postgres/exchange.ts";
import { Frames } from "../wire/frames.ts";

/** A COPY of these entries into the table itself (only puts) or into its staging table. */
export interface Copy {
  readonly table: TargetTable;
  readonly writes: TableWrites;
  readonly entries: Uint32Array;
  readonly into: "stage" | "table";
}

interface Rendered {
  readonly isBinary: boolean;
  readonly from: number;
  readonly to: number;
}

/** The rendered rows of some COPYs. Reused: the next rendering replaces them. */
export class RenderedCopies {
  readonly #frames = new Frames();
  /** Weak, because there may be thousands of sent COPYs that nobody needs any more. */
  #rendered = new WeakMap<Copy, Rendered>();

  render(copies: readonly Copy[]): this {
    // If a row turns out to need text, its table is marked and everything is rendered again: at most once per table.
    for (;;) {
      const binary = copies.map(({ table }) => !table.textRows);
      this.#frames.reset();
      this.#rendered = new WeakMap();
      if (copies.every((copy, i) => this.#add(copy, binary[i]!))) return this;
    }
  }

  #add(copy: Copy, isBinary: boolean): boolean {
    const from = this.#frames.out.length;
    if (!writeRows(this.#frames, copy, isBinary)) return false;
    this.#rendered.set(copy, { isBinary, from, to: this.#frames.out.length });
    return true;
  }

  /**
   * Sends the statements with the rows of the COPYs among them. The COPYs are all the rendered ones, or a consecutive
   * part of them, in order.
   */
  async send(
    session: Session,
    statements: readonly (string | Copy)[],
    { waiting }: Outcome,
    signal: AbortSignal,
  ): Promise<Answer> {
    const sql: string[] = [];
    const rendered: Rendered[] = [];
    for (const statement of statements) {
      if (typeof statement === "string") {
        sql.push(statement);
        continue;
      }
      const rows = this.#rendered.get(statement)!;
      rendered.push(rows);
      const { table, into } = statement;
      sql.push(into === "stage" ? table.copyStage(rows.isBinary) : table.copyDirect(rows.isBinary));
    }
    failpoint("postgres-sink.before-send");
    const rows = this.#frames.out.view().subarray(rendered[0]?.from ?? 0, rendered.at(-1)?.to ?? 0);
    const answer = await session.query(sql.join("; "), signal, { rows, onWritten: waiting });
    failpoint("postgres-sink.answered");
    return answer;
  }
}

function writeRows(frames: Frames, { table, writes, entries, into }: Copy, binary: boolean): boolean {
  if (!binary) {
    const write = into === "stage" ? copyStagedText : copyDirectText;
    table.textRows = write(frames, table, writes, entries);
    return true;
  }
  const write = into === "stage" ? copyStaged : copyDirect;
  if (write(frames, table, writes, entries)) return true;
  table.textRows = true;
  return false;
}
