/**
 * Marks of a standby whose primary nothing can be written to: each is a position that the standby had replayed. A stream shows it
 * before the first change that was committed from there on, or behind all others as soon as it has passed the position. What is
 * read after the mark was made has all that precedes it: up to its position because that was replayed, and what a stream had
 * brought beyond it because a standby streams only what it has replayed.
 */
import { Block } from "../../../../src/core/model/block.ts";
import type { Position } from "../../../../src/core/model/position.ts";

export interface PlacedMark {
  /** Where the standby was. */
  readonly at: bigint;
  readonly prefix: string;
  readonly content: string;
}

/** The schemas in which a stream has tables. */
export interface AnnouncedSchemas {
  /** Where it is. */
  readonly commit: bigint;
  readonly ofTables: Iterable<readonly [oid: number, schema: string]>;
}

export interface MarkedStream {
  expect(mark: PlacedMark): void;
  /** Looks up the shapes of tables again. */
  renew(): void;
  readonly announced: AnnouncedSchemas;
}

/** A mark that is made while there is no stream is lost, and made again (see `Watermarks`). */
export class PlacedMarks {
  readonly #streams = new Set<MarkedStream>();

  add(mark: PlacedMark): void {
    for (const stream of this.#streams) stream.expect(mark);
  }

  renew(): void {
    for (const stream of this.#streams) stream.renew();
  }

  /** Of each stream. */
  get announced(): readonly AnnouncedSchemas[] {
    return Array.from(this.#streams, (stream) => stream.announced);
  }

  attach(stream: MarkedStream): void {
    this.#streams.add(stream);
  }

  detach(stream: MarkedStream): void {
    this.#streams.delete(stream);
  }
}

/** The marks that one stream still has to show. */
export class ExpectedMarks {
  #marks: PlacedMark[] = [];

  add(mark: PlacedMark): void {
    this.#marks.push(mark);
  }

  /** Of a stream that is at `from`: a block of the marks that it has passed already; undefined if there are none. */
  due(from: Position): Block | undefined {
    if (from.index > 0 || !this.#marks.some(({ at }) => at <= from.commit)) return undefined;
    const block = new Block(new Uint8Array());
    block.until = from;
    this.place(block, from);
    return block;
  }

  /** Shows the marks in the block that follows `from`. */
  place(block: Block, from: Position): void {
    const { until, transactions, tx, count } = block;
    const waiting: PlacedMark[] = [];
    for (const mark of this.#marks) {
      // A stream that was further already: its rows have higher versions than the mark's position.
      const position = mark.at > from.commit ? mark.at : from.commit;
      let row = 0;
      while (row < count && transactions.commit[tx[row]!]! < position) row++;
      const isPassed = until.index === 0 && until.commit >= position;
      if (row === count && !isPassed) waiting.push(mark);
      else {
        const content = new TextEncoder().encode(mark.content);
        block.messages.push({ at: row, prefix: mark.prefix, content, position, transactional: false });
      }
    }
    if (waiting.length < this.#marks.length) block.messages.sort((a, b) => a.at - b.at);
    this.#marks = waiting;
  }
}
